import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { readEnvironment } from '../../../src/felix/config.ts';
import { Configuration } from '../../../src/felix/configuration.ts';
import { durationSeconds } from '../../../src/model/felix-configuration.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { apiVersion } from '../../../src/model/resource.ts';
import { until } from '../../support/wait.ts';
import { entry, Harness, node, silent } from './support.ts';

const kind = 'FelixConfiguration' as const;
const felix = (name: string, spec: object, annotations: Record<string, string> = {}) =>
  parseResource(kind, { kind, apiVersion, metadata: { name, annotations }, spec });
const labelled = (labels: Record<string, string>) =>
  parseResource('Node', { kind: 'Node', apiVersion, metadata: { name: node, labels }, spec: {} });

function made(env: Record<string, string>, ...resources: ReturnType<typeof felix>[]) {
  const configuration = new Configuration(node, readEnvironment(env, silent), silent);
  for (const one of resources)
    configuration.apply({ op: 'set', entry: entry({ type: kind, name: one.metadata.name }, one) });
  configuration.apply({ op: 'set', entry: entry({ type: 'Node', name: node }, labelled({ rack: '7' })) });
  configuration.refresh();
  return configuration;
}

const originOf = (configuration: Configuration, name: string) =>
  configuration.lines().find((line) => line.name === name);

test('environment beats node, node beats selector, selector beats default, default beats built-in', () => {
  const all = { healthPort: 1, prometheusMetricsPort: 1, vxlanMTU: 1000, routeRefreshInterval: '1m30s' };
  const configuration = made(
    { FELIX_HealthPort: '4' },
    felix('default', all),
    felix('rack', { healthPort: 2, prometheusMetricsPort: 2, vxlanMTU: 1200, nodeSelector: "rack == '7'" }),
    felix('other', { prometheusMetricsPort: 9, vxlanMTU: 900, nodeSelector: "rack == '8'" }),
    felix(`node.${node}`, { healthPort: 3, prometheusMetricsPort: 3 }),
    felix('node.another', { prometheusMetricsPort: 7 }),
  );
  expect(configuration.current).toMatchObject({
    healthPort: 4,
    metricsPort: 3,
    vxlanMtu: 1200,
    routeRefreshSeconds: 90,
    vxlanPort: 4789,
  });
  expect(originOf(configuration, 'healthPort')?.origin).toBe('environment variable FELIX_HealthPort');
  expect(originOf(configuration, 'prometheusMetricsPort')?.origin).toBe('FelixConfiguration node.n1');
  expect(originOf(configuration, 'vxlanMTU')?.origin).toBe('FelixConfiguration rack');
  expect(originOf(configuration, 'routeRefreshInterval')?.origin).toBe('FelixConfiguration default');
  expect(originOf(configuration, 'vxlanPort')?.origin).toBe('built-in default');
});

test('an annotation beats the field beside it; one that is wrong leaves its resource out', () => {
  const key = 'config.projectcalico.org/HealthPort';
  expect(made({}, felix('default', { healthPort: 1 }, { [key]: '8' })).current.healthPort).toBe(8);
  const calico = { 'config.projectcalico.org/IpInIpMtu': '1440' };
  expect(made({}, felix('default', { ipipEnabled: false }, calico)).current).toMatchObject({
    ipipEnabled: false,
    ipipMtu: 1440,
  });
  const configuration = made({}, felix('default', { vxlanPort: 5 }, { [key]: 'high' }));
  expect(configuration.current).toMatchObject({ healthPort: 9099, vxlanPort: 4789 });
});

test('a field that nobody knows is warned of once, with the nearest name; one of Calico’s where it would be missed', () => {
  const lines: { msg: string; field: string; didYouMean?: string; value?: unknown }[] = [];
  const log = createLog('test', 'warn', { write: (line) => void lines.push(JSON.parse(line)) });
  const configuration = new Configuration(node, readEnvironment({}, log), log);
  const spec = {
    ...{ vxlanPrt: 1, strange: true, iptablesFilterDenyAction: 'Reject', bpfEnabled: true },
    // Calico's own, as they are anyway, or nothing that packets notice.
    ...{ chainInsertMode: 'Insert', floatingIPs: 'Disabled', bpfLogLevel: '', wireguardMTU: 1400 },
  };
  const told = { op: 'set' as const, entry: entry({ type: kind, name: 'default' }, felix('default', spec)) };
  configuration.apply(told);
  configuration.apply(told);
  const unknown = 'unknown setting of FelixConfiguration has no effect';
  const missed = "Calico's setting of FelixConfiguration has no effect";
  expect(lines.map(({ msg, field, didYouMean, value }) => ({ msg, field, didYouMean, value }))).toEqual([
    { msg: unknown, field: 'vxlanPrt', didYouMean: 'vxlanPort', value: undefined },
    { msg: unknown, field: 'strange', didYouMean: undefined, value: undefined },
    { msg: missed, field: 'iptablesFilterDenyAction', didYouMean: undefined, value: 'Reject' },
    { msg: missed, field: 'bpfEnabled', didYouMean: undefined, value: true },
  ]);
});

test('a list of prefixes in a resource', () => {
  const list = (externalNodesList: string[]) => made({}, felix('default', { externalNodesList })).current.externalNodes;
  expect([list(['198.51.100.0/24', 'fd09::/64']), list([])]).toEqual(['198.51.100.0/24,fd09::/64', '']);
  expect(() => list(['nowhere'])).toThrow('FelixConfiguration(default).spec.externalNodesList');
});

test('what can only change at a start waits for it, and says so', () => {
  const configuration = made({}, felix('default', { iptablesBackend: 'NFT', healthEnabled: true }));
  expect(configuration.current).toMatchObject({ iptablesBackend: 'auto', healthEnabled: true });
  expect(originOf(configuration, 'iptablesBackend')).toMatchObject({ value: 'auto', afterRestart: 'nft' });
  configuration.apply({ op: 'delete', key: { type: kind, name: 'default' } });
  expect(configuration.refresh()).toEqual(['healthEnabled']);
  expect(originOf(configuration, 'iptablesBackend')?.afterRestart).toBeUndefined();
});

test('a field that cannot be is refused by name', () => {
  expect(() => felix('default', { routeRefreshInterval: 'often' })).toThrow(
    'FelixConfiguration(default).spec.routeRefreshInterval: "often": expected a duration',
  );
  expect(() => felix('default', { defaultEndpointToHostAction: 'Maybe' })).toThrow('expected one of');
  expect(felix('default', { reportingInterval: '0s' }).spec).toEqual({ reportingInterval: '0s' });
});

test.each([
  ['90s', 90],
  ['1m30s', 90],
  ['500ms', 0.5],
  ['1.5h', 5400],
  ['0', 0],
  ['12', 12],
  ['s', Number.NaN],
  ['', Number.NaN],
])('the duration %j is %d seconds', (text, seconds) => expect(durationSeconds(text)).toBe(seconds));

test('a running felix takes over a changed resource: policy, intervals and listeners', async () => {
  const configuration = new Configuration(node, readEnvironment({}, silent), silent);
  const h = new Harness({ configuration });
  h.start();
  try {
    const changes: string[] = [];
    h.felix.onConfig((config) => changes.push(config.endpointToHost));
    await until(() => h.felix.status().lastApply, { within: 5_000, what: 'first pass' });
    const last = () => h.iptables[4].tables.get('filter')?.chains.get('cali-wl-to-host')?.at(-1);
    expect(last()).toBe('-j DROP');
    await h.put({ type: kind, name: 'default' }, felix('default', { defaultEndpointToHostAction: 'Accept' }));
    await until(() => last() === '-j ACCEPT', { within: 5_000, what: 'the new action' });
    expect(changes).toEqual(['ACCEPT']);
    const checked = h.iptables[4].invalidations;
    await h.put({ type: kind, name: 'default' }, felix('default', { iptablesPostWriteCheckInterval: '10ms' }));
    await until(() => h.iptables[4].invalidations > checked + 1, { within: 5_000, what: 'checks' });
  } finally {
    await h.dispose();
  }
});
