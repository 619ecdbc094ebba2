import fc from 'fast-check';
import { expect, test } from 'vitest';
import { run, type World, world } from '../../unit/cni/fakes.ts';

/*
 * Any sequence of verbs, with anything failing in between, against a model of what a runtime may expect: which
 * container a pod's endpoint and device belong to, and which containers hold addresses.
 */

const pods = ['a', 'b'] as const;
const containers = ['c0', 'c1', 'c2'] as const;

interface Step {
  readonly verb: 'ADD' | 'DEL' | 'CHECK';
  readonly pod: (typeof pods)[number];
  readonly container: (typeof containers)[number];
  readonly trouble: 'none' | 'store' | 'felix' | 'route' | 'device' | 'veth' | 'abort';
}

const step: fc.Arbitrary<Step> = fc.record({
  verb: fc.constantFrom('ADD', 'ADD', 'DEL', 'CHECK'),
  pod: fc.constantFrom(...pods),
  container: fc.constantFrom(...containers),
  trouble: fc.constantFrom('none', 'none', 'none', 'store', 'felix', 'route', 'device', 'veth', 'abort'),
});

/** Container IDs are unique in a cluster: the pod's name is part of them here. */
const idOf = ({ pod, container }: Step) => `${pod}-${container}`;
const netnsOf = (given: Step) => `/run/netns/${idOf(given)}`;

function fresh(): World {
  const made = world({ size: 4, families: [4] });
  for (const pod of pods)
    for (const container of containers) made.kernel.addNamespace(`/run/netns/${pod}-${container}`);
  return made;
}

async function perform(at: World, given: Step): Promise<number> {
  const pod = at.kernel.open(netnsOf(given));
  const signal = given.trouble === 'abort' ? AbortSignal.abort() : new AbortController().signal;
  if (given.trouble === 'store') at.store.disconnect();
  if (given.trouble === 'felix') at.felix.programs = false;
  if (given.trouble === 'route') pod.failures.set('0.0.0.0/0', 'EINVAL');
  if (given.trouble === 'device') pod.failures.set('eth0', 'EPERM');
  if (given.trouble === 'veth') at.kernel.namespaces.delete(netnsOf(given));
  const held = at.ipam.held.get(`k8s-pod-network.${idOf(given)}`) ?? [];
  const prevResult = { ips: held.map(({ address }) => ({ address: `${address}/32` })) };
  const call = {
    container: idOf(given),
    pod: given.pod,
    netns: netnsOf(given),
    conf: given.verb === 'CHECK' ? { prevResult } : {},
  };
  try {
    return (await run(at, given.verb, call, signal)).exitCode;
  } finally {
    at.store.connect();
    at.felix.programs = true;
    pod.failures.clear();
    at.kernel.namespaces.set(netnsOf(given), pod);
  }
}

/** What must hold after every step, whatever happened. */
async function invariants(at: World): Promise<Map<string, string | undefined>> {
  const { entries, invalid } = await at.store.list('WorkloadEndpoint');
  expect(invalid).toEqual([]);
  const owners = new Map(entries.map(({ value }) => [value.spec.pod ?? '', value.spec.containerID]));
  const addresses = [...at.ipam.held.values()].flat().map(({ address }) => address);
  expect(new Set(addresses).size).toBe(addresses.length);
  for (const { value } of entries) {
    const held = at.ipam.held.get(`k8s-pod-network.${value.spec.containerID}`) ?? [];
    expect(held.map(({ address }) => `${address}/32`)).toEqual(value.spec.ipNetworks);
    expect(at.kernel.host.link(value.spec.interfaceName)).toBeDefined();
    expect(at.kernel.open(`/run/netns/${value.spec.containerID}`).link('eth0')?.up).toBe(true);
  }
  expect(at.kernel.host.links().length).toBe(1 + entries.length);
  return owners;
}

test('after any sequence of verbs and failures each pod has one whole endpoint or none', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const at = fresh();
      for (const given of steps) {
        const before = (await invariants(at)).get(given.pod);
        const code = await perform(at, given);
        const after = await invariants(at).then((owners) => owners.get(given.pod));
        const handle = `k8s-pod-network.${idOf(given)}`;
        if (given.verb === 'ADD' && code === 0) expect(after).toBe(idOf(given));
        if (given.verb === 'DEL' && code === 0) {
          expect(after).toBe(before === idOf(given) ? undefined : before);
          expect(at.ipam.held.has(handle)).toBe(false);
        }
        if (given.verb === 'CHECK') expect(after).toBe(before);
        if (given.verb === 'CHECK' && given.trouble === 'none') expect(code === 0).toBe(before === idOf(given));
      }
      for (const pod of pods) {
        for (const container of containers) await perform(at, { verb: 'DEL', pod, container, trouble: 'none' });
      }
      expect((await invariants(at)).size).toBe(0);
      expect([...at.ipam.held]).toEqual([]);
    }),
    {
      numRuns: 300,
      examples: [
        [
          [
            { verb: 'ADD', pod: 'a', container: 'c0', trouble: 'none' },
            { verb: 'ADD', pod: 'a', container: 'c2', trouble: 'device' },
            { verb: 'ADD', pod: 'a', container: 'c0', trouble: 'none' },
          ],
        ],
      ],
    },
  );
});
