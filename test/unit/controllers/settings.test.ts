import { expect, test } from 'vitest';
import { readSettings } from '../../../src/controllers/settings.ts';
import { type KubeControllersConfiguration, parseResource } from '../../../src/model/kinds.ts';

function configuration(spec: object): KubeControllersConfiguration {
  const metadata = { name: 'default' };
  return parseResource('KubeControllersConfiguration', {
    ...{ kind: 'KubeControllersConfiguration', apiVersion: 'projectcalico.org/v3', metadata },
    spec,
  });
}

test('without anything they are Calico’s defaults', () => {
  expect(readSettings({})).toEqual({
    settings: {
      ...{ logLevel: 'info', health: true, metricsPort: 9094, auditSeconds: 300, leakGraceSeconds: 900 },
      ...{ nodes: true, syncLabels: true, autoHostEndpoints: false, assignIps: 'AllServices' },
      copies: { policies: true, namespaces: true, serviceAccounts: true, endpoints: true },
    },
    ignored: [],
  });
});

test('the resource says what runs, and the environment wins over it', () => {
  const resource = configuration({
    ...{ logSeverityScreen: 'Debug', healthChecks: 'Disabled', prometheusMetricsPort: 0 },
    controllers: {
      node: {
        ...{ reconcilerPeriod: '1m30s', leakGracePeriod: '0s', syncLabels: 'Disabled' },
        hostEndpoint: { autoCreate: 'Enabled' },
      },
      namespace: {},
    },
  });
  expect(readSettings({}, resource).settings).toEqual({
    ...{ logLevel: 'Debug', health: false, metricsPort: 0, auditSeconds: 90, leakGraceSeconds: 0 },
    ...{ nodes: true, syncLabels: false, autoHostEndpoints: true, assignIps: undefined },
    copies: { policies: false, namespaces: true, serviceAccounts: false, endpoints: false },
  });
  const env = {
    ...{ ENABLED_CONTROLLERS: 'policy, node', LOG_LEVEL: 'warning', RECONCILER_PERIOD: '10s' },
    ...{ AUTO_HOST_ENDPOINTS: 'disabled', SYNC_NODE_LABELS: 'enabled', HEALTH_ENABLED: 'true' },
  };
  expect(readSettings(env, resource).settings).toMatchObject({
    ...{ logLevel: 'warning', health: true, auditSeconds: 10, autoHostEndpoints: false, syncLabels: true },
    copies: { policies: true, namespaces: false },
  });
});

test('what has no effect is named', () => {
  const resource = configuration({
    etcdV3CompactionPeriod: '10m',
    controllers: {
      node: { hostEndpoint: { templates: [{ generateName: 'x' }] } },
      policy: { reconcilerPeriod: '1m' },
      loadBalancer: { assignIPs: 'AllServices' },
    },
  });
  expect(readSettings({}, resource).ignored).toEqual([
    'spec.etcdV3CompactionPeriod',
    'spec.controllers.node.hostEndpoint.templates',
    'spec.controllers.policy.reconcilerPeriod',
  ]);
  expect(readSettings({ ENABLED_CONTROLLERS: 'node,migration' }).ignored).toEqual(['ENABLED_CONTROLLERS: migration']);
});

test('which services get addresses', () => {
  const assigned = (spec: object, env = {}) => readSettings(env, configuration(spec)).settings.assignIps;
  expect(assigned({ controllers: { loadBalancer: {} } })).toBe('AllServices');
  expect(assigned({ controllers: { loadBalancer: { assignIPs: 'RequestedServicesOnly' } } })).toBe(
    'RequestedServicesOnly',
  );
  expect(assigned({ controllers: { node: {} } })).toBeUndefined();
  expect(assigned({}, { ENABLED_CONTROLLERS: 'node' })).toBeUndefined();
  expect(assigned({}, { ENABLED_CONTROLLERS: 'node,loadbalancer' })).toBe('AllServices');
});

test.each([
  ['ENABLED_CONTROLLERS', 'node,nods', 'nods'],
  ['RECONCILER_PERIOD', 'often', 'often'],
  ['RECONCILER_PERIOD', '0', '0'],
  ['SYNC_NODE_LABELS', 'maybe', 'maybe'],
])('%s: %s is refused', (name, value, shown) => {
  expect(() => readSettings({ [name]: value })).toThrow(new RegExp(`^${name}: "${shown}": expected `));
});
