import { expect, onTestFinished, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { etcdKey } from '../../../src/datastore/layout.ts';
import { RenderedPolicy } from '../../../src/felix/policy.ts';
import { chainOf, rulesOf } from '../../support/chains.ts';
import { traverse } from '../../support/netfilter.ts';
import { until } from '../../support/wait.ts';
import { configured, Harness, node, pod, podKey, profile } from './support.ts';

/* Policies that reached the datastore past every check: what they meant to close is closed, and it is told everywhere. */

const within = 5_000;
const written = (spec: object) =>
  JSON.stringify({
    ...{ kind: 'NetworkPolicy', apiVersion: 'projectcalico.org/v3' },
    ...{ metadata: { name: 'default.broken', namespace: 'shop' }, spec },
  });
const opening = { types: ['Ingress'], ingress: [{ action: 'Allow' }] };

test.each<[string, string, RegExp]>([
  ['a field that is not known', written({ ...opening, ingress: [{ action: 'Allow', sauce: {} }] }), /sauce/],
  ['a wrong type', written({ ...opening, ingress: [{ action: 'Allow', source: { nets: '10.0.0.0/8' } }] }), /nets/],
  ['a selector that cannot be read', written({ ...opening, selector: 'app =' }), /selector/],
  ['a tier that does not exist', written({ ...opening, tier: 'nowhere' }), /nowhere/],
  ['no JSON', '{"kind":', /JSON|Unexpected|expected/],
])('%s: the pod is isolated, and status, log and metric say so', async (_, text, message) => {
  const lines: string[] = [];
  const log = createLog('test', 'warn', { write: (line: string) => void lines.push(line) });
  const h = new Harness({ policy: new RenderedPolicy(node, configured(), log) });
  onTestFinished(() => h.dispose());
  await h.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  h.link('caliweb');
  h.start();
  await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }));
  const packet = { source: '10.65.0.3', destination: '10.65.0.2', input: 'eth0', output: 'caliweb', protocol: 6 };
  const passes = () => {
    const table = h.iptables[4].tables.get('filter');
    if (!table || !chainOf(rulesOf(table), 'caliweb', 'ingress')) return false;
    const { mark } = traverse(table, new Map(), 'cali-to-wl-dispatch', { ...packet, destinationPort: 80 });
    return (mark & 0x10000) !== 0;
  };
  await until(passes, { within, what: 'the open pod' });
  expect(h.felix.counts().invalid.size).toBe(0);
  h.store.plant(etcdKey({ type: 'NetworkPolicy', namespace: 'shop', name: 'default.broken' }), text);
  await until(() => h.felix.status().invalid.length > 0, { within, what: 'the status' });
  expect(h.felix.status().invalid[0]).toMatchObject({ key: expect.stringMatching(/^NetworkPolicy\/shop\/.*broken/) });
  expect(h.felix.status().invalid[0]?.message).toMatch(message);
  expect([...h.felix.counts().invalid]).toEqual([['NetworkPolicy', 1]]);
  expect(lines.some((line) => line.includes('invalid object') && line.includes('broken'))).toBe(true);
  await until(() => !passes(), { within, what: 'the isolated pod' });
  // Whoever mends it has it as written.
  h.store.plant(etcdKey({ type: 'NetworkPolicy', namespace: 'shop', name: 'default.broken' }), written(opening));
  await until(() => h.felix.counts().invalid.size === 0, { within, what: 'the mended policy' });
  expect(h.felix.status().invalid).toEqual([]);
  await until(passes, { within, what: 'the pod as the policy has it' });
});
