import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { calicoEvent } from '../../support/cluster.ts';
import { clusterNodeEvent, clusterPolicyEvent } from '../../support/cluster-policies.ts';
import type { ClusterPolicy } from '../../support/cluster-policy-oracle.ts';
import { baseEvents, indexOf, PolicyKernel, plain, plainPods } from '../../support/policy-kernel.ts';

/* Policies of policy.networking.k8s.io with real packets. */

const policyOf = (policy: Partial<ClusterPolicy>): ClusterPolicy => ({
  name: 'a',
  kind: 'ClusterNetworkPolicy',
  tier: 'Admin',
  priority: 10,
  subject: { namespaces: {} },
  ingress: [],
  egress: [],
  ...policy,
});
const app = (name: string) => ({
  pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: name } } },
});

describe.each(['legacy', 'nft'] as const)('iptables-%s', (backend) => {
  const kernel = new PolicyKernel(backend);
  beforeAll(() => kernel.network.start());
  afterAll(() => kernel.network.stop());

  test('nodes, networks and priorities in the admin tier, a baseline beneath a Calico policy', async () => {
    const policy = indexOf([
      ...baseEvents(plain),
      clusterNodeEvent({ name: 'far', labels: { zone: 'b' }, addresses: ['192.0.2.130', 'fd00::8'] }),
      clusterPolicyEvent(
        policyOf({
          name: 'second',
          priority: 20,
          egress: [{ action: 'Deny', peers: [{ networks: ['192.0.2.0/24', 'fd00::8/125'] }] }],
        }),
      ),
      clusterPolicyEvent(
        policyOf({
          name: 'first',
          kind: 'AdminNetworkPolicy',
          egress: [
            {
              action: 'Allow',
              peers: [{ nodes: { matchLabels: { zone: 'b' } } }],
              ports: [{ protocol: 'TCP', first: 80, last: 90 }],
            },
          ],
          ingress: [{ action: 'Pass', peers: [app('b')], ports: [{ name: 'web' }] }],
        }),
      ),
      calicoEvent(
        'NetworkPolicy',
        { name: 'own', namespace: 'two' },
        { types: ['Ingress'], ingress: [{ action: 'Allow', protocol: 'TCP' }] },
      ),
      clusterPolicyEvent(
        policyOf({
          name: 'default',
          kind: 'BaselineAdminNetworkPolicy',
          tier: 'Baseline',
          ingress: [{ action: 'Deny', peers: [app('a'), app('b')] }],
        }),
      ),
    ]).snapshot();
    await kernel.reload(policy);
    const [observed, expected] = await kernel.matrix(policy, plainPods);
    expect(observed).toEqual(expected);
    // The node by TCP on the range only; the second policy denies the rest of its addresses.
    const out = observed.filter((line) => /^pod-0 → (192|fd00::8)/.test(line));
    expect(out).toEqual(
      ['192.0.2.130', 'fd00::8'].flatMap((to) => [80, 85].map((port) => `pod-0 → ${to} TCP ${port}`)),
    );
    // The baseline closes pods to pods, but not where a policy of the default tier decides.
    expect(observed.filter((line) => /^pod-0 → (10.65.0.2|fd00::2) /.test(line))).toEqual([]);
    expect(observed).toContain('pod-0 → 10.65.0.3 TCP 80');
    expect(observed).not.toContain('pod-0 → 10.65.0.3 UDP 80');
    expect(observed).toContain('outside → 10.65.0.2 UDP 80');
  });
});
