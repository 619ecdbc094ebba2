import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { manifests } from '../../../scripts/manifests/manifests.ts';
import { uninstaller, uninstallFile } from '../../../scripts/manifests/uninstall.ts';
import { createLog, type Log } from '../../../src/base/log.ts';
import { readMetricsSettings } from '../../../src/bgp/metrics-settings.ts';
import { hasBgp } from '../../../src/cli/environment.ts';
import { poolsFrom } from '../../../src/cli/startup.ts';
import { followed } from '../../../src/controllers/run.ts';
import { readSettings } from '../../../src/controllers/settings.ts';
import { readStoreConfig } from '../../../src/datastore/config.ts';
import { collectionPath } from '../../../src/datastore/kubernetes/resources.ts';
import { Sources } from '../../../src/datastore/kubernetes/sources.ts';
import { readFelixConfig } from '../../../src/felix/config.ts';
import { containersOf, daemonSetSchema } from '../../support/kubernetes/daemon-set.ts';
import { deploymentSchema } from '../../support/kubernetes/deployment.ts';
import { allowed, type Rule } from '../../support/kubernetes/rbac.ts';
import { variablesRead } from '../../support/variables.ts';

const folder = join(import.meta.dirname, '../../../deploy');
const stored = (file: string) => readFileSync(join(folder, file), 'utf8');
const read = variablesRead();

/** What the kubelet adds to a Pod's environment. */
const cluster = { KUBERNETES_SERVICE_HOST: '192.0.2.1', KUBERNETES_SERVICE_PORT: '443' };

const controllers = 'margay-controllers';

/** A log that lets no warning pass. */
const strict: Log = Object.assign(createLog('test', 'silent'), {
  warn: (facts: unknown) => expect.fail(String(facts)),
});

function load(text: string) {
  const documents = parseAllDocuments(text);
  expect(documents.flatMap(({ errors, warnings }) => [...errors, ...warnings])).toEqual([]);
  const objects = documents.map((each) => each.toJS());
  const one = (kind: string) => objects.find((each) => each.kind === kind && each.metadata.name !== controllers);
  const own = (kind: string) => objects.find((each) => each.kind === kind && each.metadata.name === controllers);
  return { objects, one, own, config: one('ConfigMap').data as Record<string, string> };
}

test('the manifests are what `npm run manifests` makes', () => {
  for (const [file, text] of [...manifests(), [uninstallFile, uninstaller()] as const])
    expect(stored(file), `${file}: run \`npm run manifests\``).toBe(text);
});

test('what removes Margay runs on every node that it is on, and looks where the agent put things', () => {
  const agent = daemonSetSchema.parse(load(stored('margay.yaml')).one('DaemonSet')).spec.template.spec;
  const { metadata, spec } = parse(uninstaller());
  const pod = spec.template.spec;
  expect(spec.template.metadata.labels).toEqual(spec.selector.matchLabels);
  expect(metadata.namespace).toBe('kube-system');
  expect(pod).toMatchObject({ hostNetwork: true, automountServiceAccountToken: false });
  for (const field of ['nodeSelector', 'tolerations', 'priorityClassName'] as const)
    expect(pod[field], field).toEqual(agent[field]);
  const [plugin, kernel] = pod.initContainers;
  const installer = agent.initContainers.find(({ name }) => name === 'install-cni');
  expect(plugin.args).toEqual(installer?.args.map((word) => (word === 'install' ? 'uninstall' : word)));
  expect(plugin.volumeMounts).toEqual(installer?.volumeMounts);
  expect(kernel.args).toEqual(['felix', 'cleanup', '--devices']);
  const felix = agent.containers.find(({ name }) => name === 'felix');
  for (const mount of kernel.volumeMounts) expect(felix?.volumeMounts).toContainEqual(mount);
  for (const volume of pod.volumes) expect(agent.volumes).toContainEqual(volume);
});

describe.each([...manifests()])('%s', (_file, text) => {
  const { objects, one, own, config } = load(text);
  const daemonSet = daemonSetSchema.safeParse(one('DaemonSet'));

  test('every object says what it is, once', () => {
    const names = objects.map(({ apiVersion, kind, metadata }) => {
      expect(apiVersion).toMatch(/^([a-z0-9.]+\/)?v1$/);
      expect(metadata.name).toMatch(/^[a-z-]+$/);
      return `${kind} ${metadata.name}`;
    });
    expect(new Set(names).size).toBe(names.length);
    for (const { kind, metadata } of objects)
      expect(metadata.namespace, kind).toBe(kind.startsWith('Cluster') ? undefined : 'kube-system');
  });

  test('the DaemonSet has the form that the API asks for', () => {
    expect(daemonSet.error).toBeUndefined();
  });

  test('every variable is one that the programs read', () => {
    const { spec: agent } = daemonSetSchema.parse(one('DaemonSet')).spec.template;
    const { spec: pod } = deploymentSchema.parse(own('Deployment')).spec.template;
    const env = [...containersOf(agent), ...pod.containers].flatMap((each) => each.env);
    for (const name of [...Object.keys(config), ...env.map((each) => each.name)]) expect(read).toContain(name);
    for (const [name, value] of Object.entries(config)) expect(value, name).toBeTypeOf('string');
  });

  test('the programs take the values, without a warning', () => {
    const env = { ...config, ...cluster };
    expect(readStoreConfig(env).type).toBe(config['DATASTORE_TYPE']);
    expect(poolsFrom(env)).toHaveLength(config['NO_DEFAULT_POOLS'] === 'true' ? 0 : 1);
    expect(readMetricsSettings(env)).toBeUndefined();
    expect(() => readFelixConfig(env, strict)).not.toThrow();
  });

  test('probes ask felix where it answers, and the speaker is there where routes come by BGP', () => {
    const { healthEnabled, healthHost, healthPort } = readFelixConfig(config, strict);
    const { containers } = daemonSetSchema.parse(one('DaemonSet')).spec.template.spec;
    expect(healthEnabled).toBe(true);
    expect(containers.map(({ name }) => name)).toEqual(hasBgp(config) ? ['felix', 'bgp'] : ['felix']);
    for (const [kind, path] of [['livenessProbe', '/liveness'] as const, ['readinessProbe', '/readiness'] as const])
      expect(containers[0]?.[kind]).toMatchObject({ httpGet: { host: healthHost, port: healthPort, path } });
    // A rolling update goes on to the next node only then.
    for (const { readinessProbe, env, volumeMounts } of containers.slice(1)) {
      expect(readinessProbe).toMatchObject({ exec: { command: ['/bin/calico-node', '-bird-ready'] } });
      expect(env).toContainEqual({ name: 'MARGAY_RUN_DIR', value: volumeMounts?.[0]?.mountPath });
    }
  });

  test('files that the settings name are mounted, and beside etcd the API may only be asked of pods', () => {
    const pod = daemonSetSchema.parse(one('DaemonSet')).spec.template.spec;
    const files = Object.entries(config).filter(([name]) => name.endsWith('_FILE'));
    const users = containersOf(pod).filter(({ name }) => name !== 'install-cni');
    for (const [variable, file] of files)
      for (const { name, volumeMounts = [] } of users)
        expect(
          volumeMounts.some(({ mountPath }) => file.startsWith(`${mountPath}/`)),
          `${name}: ${variable}`,
        ).toBe(true);
    const kubernetes = config['DATASTORE_TYPE'] === 'kubernetes';
    const { rules } = one('ClusterRole') as unknown as { rules: unknown };
    if (!kubernetes) expect(rules).toEqual([{ apiGroups: [''], resources: ['pods', 'namespaces'], verbs: ['get'] }]);
    expect(one('ClusterRoleBinding')).toBeDefined();
    expect(pod.automountServiceAccountToken).toBeUndefined();
  });
});

describe.each([...manifests()])('the controllers of %s', (_file, text) => {
  const { own, config } = load(text);
  const kubernetes = config['DATASTORE_TYPE'] === 'kubernetes';
  const { spec } = deploymentSchema.parse(own('Deployment'));
  const { spec: pod } = spec.template;
  const [container] = pod.containers;

  test('there is more than one, and not more than one is taken away at a time', () => {
    expect(spec.replicas).toBeGreaterThan(1);
    expect(own('PodDisruptionBudget').spec).toEqual({ maxUnavailable: 1, selector: spec.selector });
    expect(spec.template.metadata.labels).toMatchObject(spec.selector.matchLabels);
  });

  test('they are nobody in particular, on a file system that is read only, and read what is mounted', () => {
    expect(pod.securityContext.runAsNonRoot).toBe(true);
    expect(container?.securityContext).toEqual({
      ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
      ...{ capabilities: { drop: ['ALL'] }, seccompProfile: { type: 'RuntimeDefault' } },
    });
    for (const { secret } of pod.volumes ?? []) expect(secret.defaultMode & 0o040).toBe(0o040);
    for (const [name, file] of Object.entries(config).filter(([each]) => each.endsWith('_FILE')))
      expect(
        container?.volumeMounts?.some(({ mountPath }) => file.startsWith(`${mountPath}/`)),
        name,
      ).toBe(true);
    expect(pod.hostNetwork).toBe(kubernetes ? undefined : true);
  });

  test('probes ask the port that is listened on, and the settings are understood', () => {
    const ports = new Map(container?.ports?.map((each) => [each.name, each.containerPort]));
    for (const [kind, path] of [['livenessProbe', '/liveness'] as const, ['readinessProbe', '/readiness'] as const])
      expect(container?.[kind]).toMatchObject({ httpGet: { port: ports.get('health'), path } });
    expect(readSettings(config)).toMatchObject({ ignored: [], settings: { metricsPort: ports.get('metrics') } });
  });

  test('they may read what they follow, write what they decide, and nothing else', () => {
    const { rules } = own('ClusterRole') as { rules: Rule[] };
    const types = kubernetes ? followed.kubernetes : followed.cluster;
    for (const group of ['crd.projectcalico.org', 'projectcalico.org'] as const)
      for (const { resource } of new Sources('cali', !kubernetes, group).of(types))
        for (const query of ['', '?watch=true'])
          expect(allowed(rules, 'GET', collectionPath(resource) + query), collectionPath(resource)).toBe(true);
    for (const { resources = [], verbs } of rules) {
      expect([...resources, ...verbs]).not.toContain('*');
      expect(resources).not.toContain('secrets');
    }
    const ipam = '/apis/crd.projectcalico.org/v1/ipamblocks/a';
    expect(allowed(rules, 'PUT', ipam)).toBe(kubernetes);
    for (const path of ['/api/v1/nodes/a', '/api/v1/namespaces/a/pods/b', '/api/v1/namespaces/a/pods/b/status'])
      for (const method of ['PUT', 'PATCH', 'DELETE']) expect(allowed(rules, method, path), path).toBe(false);
    expect(own('Role') !== undefined).toBe(kubernetes);
    expect(own('RoleBinding') !== undefined).toBe(kubernetes);
    if (kubernetes)
      expect(own('Role').rules).toContainEqual({
        ...{ apiGroups: ['coordination.k8s.io'], resources: ['leases'] },
        ...{ resourceNames: [controllers], verbs: ['get', 'update'] },
      });
  });
});

test('VXLAN takes the same rights, and makes a pool whose packets are always in VXLAN', () => {
  const [plain, vxlan] = [load(stored('margay.yaml')), load(stored('margay-vxlan.yaml'))];
  expect(vxlan.one('ClusterRole')).toEqual(plain.one('ClusterRole'));
  expect(poolsFrom(vxlan.config).map(({ spec }) => [spec.ipipMode, spec.vxlanMode])).toEqual([['Never', 'Always']]);
});

test('etcd is reached with the certificates of the Secret', () => {
  const { config } = load(stored('margay-etcd.yaml'));
  expect(readStoreConfig(config)).toEqual({
    type: 'etcdv3',
    endpoints: ['https://192.0.2.10:2379'],
    tls: {
      caFile: '/etc/margay/etcd/etcd-ca',
      client: { certificateFile: '/etc/margay/etcd/etcd-cert', keyFile: '/etc/margay/etcd/etcd-key' },
    },
  });
});
