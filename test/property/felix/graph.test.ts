import fc from 'fast-check';
import { expect, test } from 'vitest';
import { keyText, type Type, type Value } from '../../../src/datastore/store.ts';
import { Graph } from '../../../src/felix/calc/graph.ts';
import { type RouteClass, routeClasses } from '../../../src/felix/calc/routes.ts';
import { RenderedPolicy } from '../../../src/felix/policy.ts';
import { parseCidr } from '../../../src/model/address.ts';
import type { ResourceOf } from '../../../src/model/kinds.ts';
import { outcome, type Step, type Story, step, tellingsOf } from '../../support/stories.ts';
import {
  block,
  configured,
  fallback,
  fallbackToUdp,
  node,
  nodeResource,
  pod,
  podKey,
  pool,
  profile,
  silent,
  tunnels,
  withoutIpip,
  withoutTunnels,
} from '../../unit/felix/support.ts';

/* The calculation depends on what exists, never on how the news of it came. */

const forms = <T>(one: fc.Arbitrary<T>) => fc.array(fc.option(one, { nil: undefined }), { minLength: 1, maxLength: 4 });
const address = fc.constantFrom('10.65.0.1', '10.65.0.2', '10.65.0.3', '10.65.1.0', 'fd00::1', 'fd00::2');
/** Whether a node's kernel has no IPIP. */
const lacking = fc.constantFrom({}, {}, withoutIpip, withoutTunnels);
const podForm = (name: string) =>
  fc
    .record({
      addresses: fc.uniqueArray(address, { maxLength: 3 }),
      on: fc.constantFrom(node, node, 'n2'),
      device: fc.constantFrom('caliaaa', 'calibbb', 'caliccc'),
      labels: fc.record({ app: fc.constantFrom('a', 'b') }),
      created: fc.constantFrom('2026-01-01T00:00:00Z', '2026-02-01T00:00:00Z'),
    })
    .map((options): Value<Type> => pod(name, options));

const stories: fc.Arbitrary<Story[]> = fc
  .tuple(
    ...['a', 'b', 'c'].map((name) =>
      forms(podForm(name)).map((list): Story => ({ of: 'object', key: podKey(name), forms: list })),
    ),
    ...['10.65.0.0/30', '10.65.1.0/32', 'fd00::/126'].map((cidr) =>
      forms(fc.constantFrom(node, 'n2', null).map((host): Value<Type> => block(cidr, host))).map(
        (list): Story => ({ of: 'object', key: { type: 'Block', cidr: parseCidr(cidr) }, forms: list }),
      ),
    ),
    ...['p', 'q'].map((name) =>
      forms(
        fc
          .tuple(
            fc.constantFrom('10.65.0.0/16', '10.66.0.0/16', 'fd00::/48'),
            fc.boolean(),
            fc.constantFrom('Never' as const, 'Always' as const, 'CrossSubnet' as const),
            fc.constantFrom('vxlan', 'ipip', 'ipip with a fallback', 'any, UDP at last'),
          )
          .map(([cidr, nat, mode, how]): Value<Type> => {
            if (how === 'vxlan') return pool(name, cidr, nat, mode);
            if (how === 'any, UDP at last' && !cidr.includes(':'))
              return pool(name, cidr, nat, nat ? mode : 'Never', { ipipMode: nat ? 'Never' : mode, ...fallbackToUdp });
            return pool(name, cidr, nat, 'Never', { ipipMode: mode, ...(how === 'ipip' ? {} : fallback) });
          }),
      ).map((list): Story => ({ of: 'object', key: { type: 'IPPool', name }, forms: list })),
    ),
    forms(
      fc
        .tuple(fc.constantFrom('192.0.2.1/24', '192.0.2.2'), lacking)
        .map(([ip, lacks]): Value<Type> => nodeResource(node, ip, undefined, lacks)),
    ).map((list): Story => ({ of: 'object', key: { type: 'Node', name: node }, forms: list })),
    forms(
      fc
        .tuple(
          fc.constantFrom('192.0.2.9/24', '198.51.100.9/24', '192.0.2.9'),
          fc.constantFrom(undefined, '10.65.0.3', '10.66.0.9'),
          lacking,
        )
        .map(([ip, tunnel, lacks]): Value<Type> => nodeResource('n2', ip, tunnel, lacks)),
    ).map((list): Story => ({ of: 'object', key: { type: 'Node', name: 'n2' }, forms: list })),
    forms(fc.constant<Value<Type>>(profile('kns.shop'))).map(
      (list): Story => ({ of: 'object', key: { type: 'Profile', name: 'kns.shop' }, forms: list }),
    ),
    ...['10.65.0.0/30', '10.65.0.1/32', '10.67.0.0/26'].map((prefix) =>
      forms(fc.uniqueArray(fc.constantFrom('192.0.2.1', '192.0.2.2', '192.0.2.3'), { minLength: 1 })).map(
        (list): Story => ({ of: 'feed', prefix: parseCidr(prefix), forms: list }),
      ),
    ),
  )
  .map((list) => list);

const tellings = tellingsOf(stories);

function graph(): Graph {
  return new Graph({
    node,
    families: [4, 6],
    interfacePrefix: 'cali',
    policy: new RenderedPolicy(node, configured(), silent),
    tunnels,
    plain: false,
  });
}

function run(steps: readonly Step[], look?: (graph: Graph) => void): Graph {
  const result = graph();
  result.applyFeed({ type: 'hello', version: 1 });
  for (const one of steps) {
    if (one.of === 'object') result.apply(one.event);
    else result.applyFeed(one.message);
    look?.(result);
  }
  result.applyFeed({ type: 'endOfSnapshot' });
  result.settle();
  return result;
}

test('any order, repetition and leaving out ends in the result of computing afresh', () => {
  fc.assert(
    fc.property(tellings, ({ list, steps }) => {
      const afresh = list.map((story) => step(story, story.forms.length - 1));
      // Looking in between makes the incremental parts do their work in many small steps, and leave some of it.
      const told = run(steps, (result) => {
        result.firewall();
        result.settle(() => true);
      });
      expect(outcome(told)).toEqual(outcome(run(afresh)));
    }),
    { numRuns: 300 },
  );
});

/** How the other node's blocks are reached, by the last forms of pools and nodes alone. */
function wayTo(cidr: string, list: readonly Story[]): RouteClass | undefined {
  const last = (type: string, name: string) => {
    const found = list.find((one) => one.of === 'object' && keyText(one.key) === `${type}/${name}`);
    const form = found?.forms.at(-1);
    return form && 'spec' in form ? form : undefined;
  };
  const pools = ['p', 'q'].map((name) => last('IPPool', name) as ResourceOf<'IPPool'> | undefined);
  const found = pools.findLast((one) => one?.spec.cidr.startsWith(cidr.slice(0, 5)));
  const nodes = [node, 'n2'].map((name) => last('Node', name) as ResourceOf<'Node'> | undefined);
  const [own, there] = nodes.map((one) => one?.spec);
  if (cidr.includes(':') || !own?.bgp || !there?.bgp || !found) return undefined;
  const { vxlanMode, ipipMode } = found.spec;
  const mode = vxlanMode === 'Never' ? ipipMode : vxlanMode;
  const near = own.bgp.ipv4Address === '192.0.2.1/24' && there.bgp.ipv4Address?.startsWith('192.0.2.');
  if (mode === 'Never') return undefined;
  if (mode === 'CrossSubnet' && near) return 'noEncap';
  const annotated = (name: string) => (one: { metadata: { annotations?: object } } | undefined) =>
    Object.entries(one?.metadata.annotations ?? {}).find(([key]) => key === name)?.[1] as string | undefined;
  const falls = annotated('margay.io/tunnelFallback')(found) ?? '';
  const lacks = (kind: string) => nodes.some(annotated(`margay.io/${kind}`));
  const vxlan = there.ipv4VXLANTunnelAddr ? 'vxlan' : undefined;
  if (vxlanMode === 'Never' && !(falls.includes('VXLAN') && lacks('ipip'))) return 'ipip';
  return falls.includes('UDP') && lacks('vxlan') ? 'udp' : vxlan;
}

test('the winner of each destination is what the class order says', () => {
  fc.assert(
    fc.property(tellings, ({ list, steps }) => {
      const wanted = new Map<string, RouteClass>();
      const wish = (destination: string, by: RouteClass) => {
        const before = wanted.get(destination);
        if (!before || routeClasses.indexOf(by) < routeClasses.indexOf(before)) wanted.set(destination, by);
      };
      const own = new Set<string>();
      const last = list.map((story) => ({ story, form: story.forms.at(-1) }));
      for (const { story, form } of last) {
        if (story.of !== 'object' || !form) continue;
        if ('sequenceNumber' in form) {
          if (form.affinity === `host:${node}`) wish(form.cidr, 'blackhole');
          const way = form.affinity === 'host:n2' && wayTo(form.cidr, list);
          if (way) wish(form.cidr, way);
        } else if ('kind' in form && form.kind === 'WorkloadEndpoint') {
          if (form.spec.node === node) for (const net of form.spec.ipNetworks) wish(parseCidr(net), 'localWorkload');
        } else if ('kind' in form && form.kind === 'Node' && form.metadata.name === node)
          own.add(form.spec.bgp?.ipv4Address?.split('/')[0] ?? '');
      }
      for (const { story, form } of last) {
        if (story.of === 'feed' && Array.isArray(form) && form.some((hop) => !own.has(hop))) wish(story.prefix, 'bgp');
      }
      const { routes, remote } = run(steps);
      const found = [...routes.winners].map(([destination, winner]) => [destination, winner.class]);
      // What is routed to the userspace tunnel, its thread knows where to send.
      for (const [destination, { class: by, route }] of routes.winners)
        if (by === 'udp') expect(remote.udp()?.destinations.get(destination)).toBe(route.nextHops[0]?.gateway);
      expect(new Map(found as [string, RouteClass][])).toEqual(wanted);
    }),
    { numRuns: 200 },
  );
});

test('the firewall keeps its identity when nothing of it changed', () => {
  fc.assert(
    fc.property(tellings, ({ list, steps }) => {
      const result = run(steps);
      const before = result.firewall();
      for (const story of list) {
        const again = step(story, story.forms.length - 1);
        if (again.of === 'object' && again.event.op !== 'delete' && keyText(again.event.entry.key).startsWith('Block/'))
          result.apply(again.event);
        else if (again.of === 'feed') result.applyFeed(again.message);
      }
      expect(result.firewall()).toBe(before);
    }),
    { numRuns: 50 },
  );
});
