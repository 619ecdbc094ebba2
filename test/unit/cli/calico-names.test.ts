import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { calicoCommands } from '../../../scripts/image/program.ts';
import { InputError } from '../../../src/base/errors.ts';
import { idleVariables } from '../../../src/cli/calico-environment.ts';
import { actionOf, seesNamespaces } from '../../../src/cli/calico-names.ts';
import { probeFailure } from '../../../src/cli/probe.ts';
import { networkConfigOf } from '../../../src/cni/network-config.ts';

/* What the containers of a stock Calico manifest run, when only their images are ours. */

const install = {
  do: 'run',
  args: ['cni', 'install', '--bin-dir', '/host/opt/cni/bin', '--conf-dir', '/host/etc/cni/net.d'],
};

test.each<[string, string, object]>([
  ['install-cni', 'install', install],
  ['install-cni since 3.32', 'calico component cni install', install],
  ['upgrade-ipam', 'calico-ipam -upgrade', { do: 'nothing' }],
  ['mount-bpffs', 'calico-node -init -best-effort', { do: 'nothing' }],
  ['ebpf-bootstrap since 3.32', 'calico component node init --best-effort', { do: 'nothing' }],
  ['calico-node', 'start_runit', { do: 'run', args: ['node'] }],
  ['its hook', 'calico-node -shutdown', { do: 'nothing' }],
  ['its liveness', 'calico-node -felix-live -bird-live', { do: 'probe', probes: ['felix-live', 'bgp-live'] }],
  ['its readiness', 'calico-node -felix-ready -bird-ready', { do: 'probe', probes: ['felix-ready', 'bgp-ready'] }],
  ['since 3.32', 'calico component node health --felix-ready', { do: 'probe', probes: ['felix-ready'] }],
  ['both families', 'calico-node -bird-live -bird6-live', { do: 'probe', probes: ['bgp-live'] }],
  ['liveness of kube-controllers', 'check-status -l', { do: 'probe', probes: ['controllers-live'] }],
  ['its readiness', 'check-status -r', { do: 'probe', probes: ['controllers-ready'] }],
  ['kube-controllers since 3.32', 'calico component kube-controllers', { do: 'run', args: ['controllers'] }],
])('%s: %s', (_container, line, action) => {
  const [name = '', ...args] = line.split(' ');
  expect(actionOf(name, args, {})).toMatchObject(action);
});

test('images without a command are told apart by their environment', () => {
  expect(actionOf('', [], { NODENAME: 'n', DATASTORE_TYPE: 'kubernetes' })).toEqual({ do: 'run', args: ['node'] });
  expect(actionOf('', [], { ENABLED_CONTROLLERS: 'node' })).toEqual({ do: 'run', args: ['controllers'] });
  expect(() => actionOf('', [], {})).toThrow(/NODENAME or ENABLED_CONTROLLERS/);
});

test.each(['calico-node -bird-redy', 'calico-node -felix -startup', 'calico component typha', 'calicoctl get'])(
  '%s is refused by name',
  (line) => {
    const [name = '', ...args] = line.split(' ');
    expect(() => actionOf(name, args, {})).toThrow(InputError);
  },
);

test("whether pods' namespaces can be seen", () => {
  const line = (path: string) => `36 35 98:0 / ${path} rw,noatime master:1 - tmpfs tmpfs rw\n`;
  expect(seesNamespaces(line('/') + line('/run/netns'))).toBe(true);
  expect(seesNamespaces(line('/var/run/netns'))).toBe(true);
  expect(seesNamespaces(line('/run') + line('/run/netns/cni-1'))).toBe(false);
});

test('every command of a manifest is an executable of the image', () => {
  for (const path of [
    ...['/opt/cni/bin/install', '/opt/cni/bin/calico-ipam', '/usr/bin/calico-ipam', '/bin/calico-node'],
    ...['/usr/bin/check-status', '/usr/bin/calico', '/usr/sbin/start_runit', '/usr/bin/kube-controllers'],
  ])
    expect(calicoCommands).toContain(path);
});

test('probes ask the agents, and say what these answered', async () => {
  let code = 200;
  const server = createServer((request, response) => {
    response.writeHead(code);
    response.end(`${request.url}\n`);
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const port = String((server.address() as AddressInfo).port);
  const env = { FELIX_HEALTHHOST: '127.0.0.1', FELIX_HEALTHPORT: port, MARGAY_RUN_DIR: '/nowhere' };
  try {
    expect(await probeFailure('felix-live', env)).toBeUndefined();
    code = 503;
    expect(await probeFailure('felix-ready', env)).toMatch(/readiness: \/readiness/);
    expect(await probeFailure('bgp-live', env)).toMatch(/\/nowhere/);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
  expect(await probeFailure('felix-live', env)).toMatch(/ECONNREFUSED/);
});

test("a stock manifest's environment has no idle variable; others are named, or guessed", () => {
  const stock = {
    ...{ DATASTORE_TYPE: 'kubernetes', WAIT_FOR_DATASTORE: 'true', NODENAME: 'n', CALICO_NETWORKING_BACKEND: 'bird' },
    ...{ CLUSTER_TYPE: 'k8s,bgp', IP: 'autodetect', CALICO_IPV4POOL_IPIP: 'Always', CALICO_IPV4POOL_VXLAN: 'Never' },
    ...{
      CALICO_IPV6POOL_VXLAN: 'Never',
      CALICO_DISABLE_FILE_LOGGING: 'true',
      FELIX_HEALTHENABLED: 'true',
      PATH: '/bin',
    },
  };
  expect(idleVariables(stock)).toEqual([]);
  expect(
    idleVariables({ ...stock, CALICO_IPV4POOL_CIRD: 'x', DISABLE_NODE_IP_CHECK: 'true', CALICO_EARLY_NETWORKING: '' }),
  ).toEqual([
    { variable: 'CALICO_IPV4POOL_CIRD', didYouMean: 'CALICO_IPV4POOL_CIDR' },
    { variable: 'DISABLE_NODE_IP_CHECK', detail: expect.stringContaining('one address') },
  ]);
});

const template = `{
  "name": "k8s-pod-network", "cniVersion": "0.3.1",
  "plugins": [
    { "type": "calico", "log_level": "info", "log_file_path": "/var/log/calico/cni/cni.log", "datastore_type": "kubernetes",
      "nodename": "__KUBERNETES_NODE_NAME__", "mtu": __CNI_MTU__, "ipam": { "type": "calico-ipam" },
      "policy": { "type": "k8s" }, "kubernetes": { "kubeconfig": "__KUBECONFIG_FILEPATH__" } },
    { "type": "portmap", "snat": true, "capabilities": {"portMappings": true} },
    { "type": "bandwidth", "capabilities": {"bandwidth": true} }
  ]
}`;

test("the network configuration of a manifest: its places filled, Calico's plugin ours, the chained ones as they are", () => {
  const { conflist, dropped } = networkConfigOf(template, { nodename: 'n"1', mtu: 1440, env: {} }, 'margay');
  expect(dropped).toEqual([]);
  expect(conflist.plugins.map(({ type }) => type)).toEqual(['margay', 'portmap', 'bandwidth']);
  expect(conflist.plugins[0]).toMatchObject({ nodename: 'n"1', mtu: 1440, ipam: { type: 'calico-ipam' } });
  expect(conflist.plugins[0]).toMatchObject({ kubernetes: { kubeconfig: '/etc/cni/net.d/calico-kubeconfig' } });
  const more = template.replace(
    '"log_level"',
    '"container_settings": {}, "feature_control": { "floating_ips": true, "ip_addrs_no_ipam": true }, "log_level"',
  );
  const reduced = networkConfigOf(more, { nodename: 'n', mtu: 0, env: {} }, 'margay');
  expect(reduced.dropped).toEqual(['container_settings', 'feature_control.floating_ips']);
  expect(reduced.conflist.plugins[0]).toMatchObject({ feature_control: { ip_addrs_no_ipam: true } });
});

test.each([
  ['{"name": "a", "plugins": [{"type": "bridge"}]}', 'CNI_NETWORK_CONFIG.plugins'],
  [template.replace('__CNI_MTU__', '__CNI_MTUU__'), 'CNI_NETWORK_CONFIG'],
  [template.replace('calico-ipam', 'dhcp'), 'CNI_NETWORK_CONFIG'],
  ['{', 'CNI_NETWORK_CONFIG'],
  ['{"type": "calico", "ipam": {"type": "calico-ipam"}}', 'CNI_NETWORK_CONFIG.name'],
])('template %#: %s names its fault', (text, field) => {
  const fill = () => networkConfigOf(text, { nodename: 'n', mtu: 0, env: {} }, 'margay');
  expect(fill).toThrow(expect.objectContaining({ field }));
});
