import { afterAll, beforeAll, expect, test } from 'vitest';
import { ControlPlane } from './control-plane.ts';
import { applyDefinitions, objectsOf } from './definitions.ts';

/* What a live API server lets the service accounts of deploy/margay.yaml do, and above all what it does not. */

let cluster: ControlPlane;
beforeAll(async () => {
  cluster = await ControlPlane.start();
  await applyDefinitions(cluster);
  await cluster.apply(...objectsOf('margay.yaml'));
});
afterAll(() => cluster?.stop());

/** The words of `kubectl auth can-i`. */
type Question = readonly [verb: string, resource: string, ...options: string[]];

/** The answer of the server's own SubjectAccessReview. */
async function may(account: string, question: Question): Promise<boolean> {
  const who = `--as=system:serviceaccount:kube-system:${account}`;
  const { stdout, stderr } = await cluster.kubectl(['auth', 'can-i', ...question, who]);
  const answer = stdout.trim().split('\n').at(-1);
  if (answer !== 'yes' && answer !== 'no') throw new Error(`can-i ${question.join(' ')}: ${stdout}${stderr}`);
  return answer === 'yes';
}

const here = ['-n', 'kube-system'] as const;
const everywhere = '--all-namespaces';

/** Nobody of ours may do these. */
const never: readonly Question[] = [
  ...(['get', 'list', 'watch'] as const).map((verb): Question => [verb, 'secrets', everywhere]),
  ['get', 'secrets', ...here],
  ['create', 'pods', everywhere],
  ['create', 'pods', '--subresource=exec', everywhere],
  ['update', 'pods', everywhere],
  ['delete', 'pods', everywhere],
  ['create', 'nodes'],
  ['update', 'nodes'],
  ['delete', 'nodes'],
  ['get', 'nodes', '--subresource=proxy'],
  ['update', 'configmaps', ...here],
  ['impersonate', 'serviceaccounts', ...here],
  ['create', 'clusterrolebindings'],
  ['bind', 'clusterroles'],
  ['escalate', 'clusterroles'],
  ['delete', 'networkpolicies.networking.k8s.io', everywhere],
  ['delete', 'ippools.crd.projectcalico.org'],
  ['update', 'globalnetworkpolicies.crd.projectcalico.org'],
  ['delete', 'clusterinformations.crd.projectcalico.org'],
];

test.each<[string, readonly Question[], readonly Question[]]>([
  [
    'margay-node',
    [
      ['patch', 'nodes', '--subresource=status'],
      ['patch', 'pods', '--subresource=status', everywhere],
      ['watch', 'pods', everywhere],
      ['list', 'endpointslices.discovery.k8s.io', everywhere],
      ['update', 'ipamblocks.crd.projectcalico.org'],
      ['create', 'serviceaccounts/margay-cni-plugin', '--subresource=token', ...here],
    ],
    [
      ['patch', 'nodes'],
      ['patch', 'pods', everywhere],
      ['create', 'serviceaccounts/margay-node', '--subresource=token', ...here],
      ['create', 'serviceaccounts/margay-cni-plugin', '--subresource=token', '-n', 'default'],
      ['patch', 'services', '--subresource=status', everywhere],
      ['get', 'leases.coordination.k8s.io', ...here],
    ],
  ],
  [
    'margay-controllers',
    [
      ['update', 'leases.coordination.k8s.io/margay-controllers', ...here],
      ['patch', 'services', '--subresource=status', everywhere],
      ['delete', 'blockaffinities.crd.projectcalico.org'],
      ['create', 'hostendpoints.crd.projectcalico.org'],
    ],
    [
      ['update', 'leases.coordination.k8s.io/kube-scheduler', ...here],
      ['get', 'leases.coordination.k8s.io/margay-controllers', '-n', 'default'],
      ['patch', 'nodes', '--subresource=status'],
      ['patch', 'pods', '--subresource=status', everywhere],
      ['create', 'serviceaccounts/margay-cni-plugin', '--subresource=token', ...here],
    ],
  ],
  [
    'margay-cni-plugin',
    [
      ['get', 'pods', everywhere],
      ['get', 'nodes'],
      ['get', 'namespaces'],
    ],
    [
      ['list', 'pods', everywhere],
      ['watch', 'pods', everywhere],
      ['list', 'nodes'],
      ['patch', 'pods', '--subresource=status', everywhere],
      ['get', 'ipamblocks.crd.projectcalico.org'],
    ],
  ],
])('%s may do what it needs, and no more', async (account, allowed, refused) => {
  for (const question of allowed) expect(await may(account, question), question.join(' ')).toBe(true);
  for (const question of [...never, ...refused]) expect(await may(account, question), question.join(' ')).toBe(false);
});
