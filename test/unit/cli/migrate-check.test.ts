import { expect, test } from 'vitest';
import { calicoGaps } from '../../../src/cli/migrate-check.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';
import { readDump } from '../../../src/migrate/dump.ts';

/* What Margay says of the objects of a running Calico. */

async function gaps(objects: Readonly<Record<string, object>>): Promise<readonly string[]> {
  const store = createMemoryStore();
  for (const [key, value] of Object.entries(objects)) {
    const [plural = '', ...rest] = key.split('/');
    const metadata = { name: rest.at(-1), ...(rest.length === 2 && { namespace: rest[0] }) };
    const envelope = { ...value, apiVersion: 'projectcalico.org/v3', metadata };
    store.plant(`/calico/resources/v3/projectcalico.org/${[plural, ...rest].join('/')}`, JSON.stringify(envelope));
  }
  return calicoGaps(await readDump(store)).map(({ field }) => field);
}

test('what a stock installation writes is all followed', async () => {
  const found = await gaps({
    'felixconfigurations/default': {
      kind: 'FelixConfiguration',
      spec: {
        ...{ bpfConnectTimeLoadBalancing: 'TCP', bpfHostNetworkedNATWithoutCTLB: 'Enabled', floatingIPs: 'Disabled' },
        ...{ logSeverityScreen: 'Info', nftablesMode: 'Auto', reportingInterval: '0s', bpfEnabled: false },
      },
    },
    'clusterinformations/default': {
      kind: 'ClusterInformation',
      spec: {
        calicoVersion: 'v3.31.0',
        clusterGUID: 'f',
        clusterType: 'k8s,bgp,kdd',
        datastoreReady: true,
        variant: 'Calico',
      },
    },
    'kubecontrollersconfigurations/default': {
      kind: 'KubeControllersConfiguration',
      spec: {
        ...{
          etcdV3CompactionPeriod: '10m',
          healthChecks: 'Enabled',
          logSeverityScreen: 'Info',
          prometheusMetricsPort: 9094,
        },
        controllers: {
          node: { leakGracePeriod: '15m', syncLabels: 'Enabled' },
          loadBalancer: { assignIPs: 'AllServices' },
        },
      },
    },
    'ippools/default-ipv4-ippool': {
      kind: 'IPPool',
      spec: {
        ...{ allowedUses: ['Workload', 'Tunnel'], blockSize: 26, cidr: '10.244.0.0/16', ipipMode: 'Always' },
        ...{ natOutgoing: true, nodeSelector: 'all()', vxlanMode: 'Never', assignmentMode: 'Automatic' },
      },
    },
  });
  expect(found).toEqual([]);
});

test('what would be missed is named: fields, values, kinds, rules, and what cannot be read', async () => {
  const found = await gaps({
    'felixconfigurations/default': { kind: 'FelixConfiguration', spec: { wireguardEnabled: true, bpfEnabled: true } },
    'bgpconfigurations/default': { kind: 'BGPConfiguration', spec: { ignoredInterfaces: ['eth9'] } },
    'bgppeers/rack': { kind: 'BGPPeer', spec: { peerIP: '192.0.2.1', asNumber: 1, reachableBy: '192.0.2.9' } },
    'ippools/lb': {
      kind: 'IPPool',
      spec: { cidr: '10.9.0.0/24', allowedUses: ['LoadBalancer'], namespaceSelector: "a == 'b'" },
    },
    'livemigrations/shop/vm': { kind: 'LiveMigration', spec: {} },
    'nodes/n1': {
      kind: 'Node',
      spec: { wireguard: { interfaceIPv4Address: '10.9.0.1' } },
      status: { wireguardPublicKey: 'k' },
    },
    'workloadendpoints/shop/n1-k8s-web-eth0': {
      kind: 'WorkloadEndpoint',
      spec: {
        ...{ orchestrator: 'k8s', node: 'n1', endpoint: 'eth0', pod: 'web', interfaceName: 'cali1', profiles: [] },
        ...{ ipNetworks: ['10.9.0.1/32'], ipNATs: [{ internalIP: '10.9.0.1', externalIP: '192.0.2.1' }] },
      },
    },
    'networkpolicies/shop/web': { kind: 'NetworkPolicy', spec: { tier: 'gone', selector: 'all()' } },
    'networkpolicies/shop/http': {
      kind: 'NetworkPolicy',
      spec: { selector: 'all()', ingress: [{ action: 'Allow', http: { methods: ['GET'] } }] },
    },
  });
  expect(found).toEqual(
    expect.arrayContaining([
      ...['FelixConfiguration(default).spec.wireguardEnabled', 'FelixConfiguration(default).spec.bpfEnabled'],
      ...['BGPConfiguration(default).spec.ignoredInterfaces', 'BGPPeer(rack).spec.reachableBy'],
      ...['livemigrations/shop/vm', 'WorkloadEndpoint(shop/n1-k8s-web-eth0).spec.ipNATs'],
      ...['Node(n1).spec.wireguard', 'Node(n1).status.wireguardPublicKey', 'NetworkPolicy/shop/http'],
      'NetworkPolicy(shop/web).spec.tier',
    ]),
  );
  expect(found).toHaveLength(10);
});
