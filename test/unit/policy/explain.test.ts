import { describe, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { explainPage } from '../../../src/cli/explain-page.ts';
import type { Event } from '../../../src/datastore/store.ts';
import { parseParty, parseTarget } from '../../../src/policy/ends.ts';
import { answer } from '../../../src/policy/question.ts';
import { calicoEvent, calicoPolicyEvent, endpointEvent, namespaceEvent, policyEvent } from '../../support/cluster.ts';
import type { Pod } from '../../support/oracle.ts';

const log = createLog('test', 'silent');
const pod = (name: string, address: string): Pod => ({
  name,
  namespace: 'shop',
  labels: { app: name },
  addresses: [address],
  ports: [],
});
const world: Event[] = [
  namespaceEvent('shop', {}),
  endpointEvent(pod('web', '10.0.0.1'), 'n1'),
  endpointEvent(pod('db', '10.0.0.2'), 'n2'),
  calicoEvent('Node', { name: 'n2' }, { bgp: { ipv4Address: '192.0.2.2/24' } }),
  calicoEvent('Tier', { name: 'security' }, { order: 5, defaultAction: 'Pass' }),
  calicoEvent('GlobalNetworkPolicy', { name: 'audit' }, { tier: 'security', ingress: [{ action: 'Log' }] }),
  policyEvent({
    name: 'db',
    namespace: 'shop',
    spec: {
      podSelector: { matchLabels: { app: 'db' } },
      ingress: [{ from: [{ podSelector: { matchLabels: { app: 'web' } } }], ports: [{ port: 5432 }] }],
    },
  }),
];

function ask(from: string, to: string, cluster = world) {
  const { party: destination, transport } = parseTarget(to, 'shop', 'TO');
  return answer(cluster, { source: parseParty(from, 'shop', 'FROM'), destination, transport }, log);
}

test('an allowed connection names the rule at both ends, and the chains', () => {
  const found = ask('web', 'db:5432');
  expect(found).toMatchObject({
    verdict: 'allow',
    transport: { protocol: 'tcp', port: 5432 },
    source: { address: '10.0.0.1', namespace: 'shop', pod: 'web', node: 'n1', interface: 'caliweb' },
    destination: {
      trace: {
        direction: 'ingress',
        chain: expect.stringMatching(/^cali-tw-[\w-]{16}$/),
        reason: { by: 'policy', tier: 'default', policy: 'shop/knp.default.db', rule: 0 },
        tiers: [
          { tier: 'security', outcome: 'none', policies: [{ policy: 'GlobalNetworkPolicy audit' }] },
          { tier: 'default', outcome: 'allow', policies: [{ chain: 'cali-pi-shop/knp.default.db' }] },
        ],
      },
    },
    problems: [],
  });
  const page = explainPage(found).replaceAll(/(cali-[ft]w-)[\w-]{16}/g, '$1HASH');
  expect(page).toBe(`shop/web (10.0.0.1 on n1) -> shop/db (10.0.0.2 on n2), tcp 5432: allowed

egress from shop/web: allowed, by rule 1 of Namespace shop
  chain cali-fw-HASH on n1
  profiles
    Namespace shop (chain cali-pro-kns.shop)
      rule 1 allow: matches everything

ingress to shop/db: allowed, by rule 1 of NetworkPolicy shop/db
  chain cali-tw-HASH on n2
  tier security: no rule decides, and the tier passes on
    GlobalNetworkPolicy audit (chain cali-pi-audit)
      rule 1 log: matches everything
  tier default: a rule allows
    NetworkPolicy shop/db (chain cali-pi-shop/knp.default.db)
      rule 1 allow: matches protocol 6, source selector (projectcalico.org/namespace == "shop" && (projectcalico.org/orchestrator == "k8s" && app == "web")), destination ports 5432
`);
});

test('a denied one names the first condition that failed', () => {
  const found = ask('web', 'db:80');
  expect(found.verdict).toBe('deny');
  expect(found.destination.trace?.tiers.at(-1)?.policies[0]?.rules).toEqual([
    { rule: 0, action: 'allow', matched: false, conditions: [{ condition: 'destinationPorts', wanted: '5432' }] },
  ]);
  expect(explainPage(found)).toContain('ingress to shop/db: denied, as policies of tier default apply and none');
  expect(explainPage(found)).toContain('      rule 1 allow: no, wants destination ports 5432\n');
});

test('addresses stand for the pods that have them, and others for the world outside', () => {
  expect(ask('10.0.0.1', '10.0.0.2:5432')).toEqual(ask('web', 'db:5432'));
  const outside = ask('198.51.100.1', 'db:5432');
  expect(outside).toMatchObject({ verdict: 'deny', source: { address: '198.51.100.1' } });
  expect(outside.source).not.toHaveProperty('trace');
  expect(ask('web', '198.51.100.1:443').verdict).toBe('allow');
});

test("a pod's own node and the pod itself always reach it", () => {
  expect(ask('192.0.2.2', 'db:80')).toMatchObject({ verdict: 'allow', always: 'ownNode' });
  expect(ask('192.0.2.2', 'web:80')).not.toHaveProperty('always');
  expect(ask('db', 'db:80')).toMatchObject({ verdict: 'allow', always: 'samePod' });
});

test('what is wrong in a policy is told with the verdict', () => {
  const broken = calicoPolicyEvent('c', 'shop', { ingress: [{ action: 'Deny', source: { selector: 'app =' } }] });
  const found = ask('web', 'db:5432', [...world, broken]);
  expect(found.problems).toHaveLength(1);
  expect(explainPage(found)).toMatch(/^! NetworkPolicy\/shop\/c: .*source\.selector/m);
});

describe('questions', () => {
  test.each([
    ['db:80', { namespace: 'shop', pod: 'db' }, { protocol: 'tcp', port: 80 }],
    ['two/db:80/UDP', { namespace: 'two', pod: 'db' }, { protocol: 'udp', port: 80 }],
    ['10.0.0.1:9/sctp', { address: '10.0.0.1' }, { protocol: 'sctp', port: 9 }],
    ['[fd00:0::1]:80', { address: 'fd00::1' }, { protocol: 'tcp', port: 80 }],
    ['db:icmp', { namespace: 'shop', pod: 'db' }, { protocol: 'icmp' }],
  ])('%s', (text, party, transport) => {
    expect(parseTarget(text, 'shop', 'TO')).toEqual({ party, transport });
  });

  test.each(['db', 'db:0', 'db:65536', 'db:80/gre', 'fd00::1:80', ':80', '[db]:80x', '10.0.0.300:80'])(
    'not %s',
    (text) => {
      expect(() => parseTarget(text, 'shop', 'TO')).toThrow(/^TO: /);
    },
  );

  test('a pod that does not exist, and ends without a common family', () => {
    expect(() => ask('nobody', 'db:80')).toThrow('source: "shop/nobody": expected a pod that exists');
    expect(() => ask('fd00::9', 'db:80')).toThrow(/destination: .*family of the source/);
  });
});
