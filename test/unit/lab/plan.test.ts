import { describe, expect, test } from 'vitest';
import { fabricCommands } from '../../../src/lab/network.ts';
import { addressIn, checkOptions, type LabOptions, planLab } from '../../../src/lab/plan.ts';
import { birdConfig, frrConfig } from '../../../src/lab/tor.ts';
import { patience } from '../../../src/lab/wait.ts';

const options: LabOptions = { name: 'lab', nodes: 3, pods: 2, family: 'v4', tor: 'bird' };

describe('plan of a lab', () => {
  test('names of namespaces, links and containers are unique and fit the kernel', () => {
    const plan = planLab({ ...options, nodes: 20, pods: 50 });
    const netns = [plan.fabric, plan.etcd, plan.tor, plan.legacy, ...plan.nodes, ...plan.pods].flatMap(
      (m) => m?.netns ?? [],
    );
    expect(new Set(netns).size).toBe(20 + 20 * 50 + 4);
    expect(plan.nodes.every(({ name }) => name.length <= 15)).toBe(true);
    expect(new Set(plan.nodes.map((node) => addressIn(node, 4))).size).toBe(20);
    expect(new Set(plan.pods.map(({ containerId }) => containerId)).size).toBe(1000);
  });

  test('one lab’s namespaces never begin with the prefix of another, since names hold no dash', () => {
    expect(() => checkOptions({ ...options, name: 'a-b' })).toThrow('--name: "a-b"');
    expect(() => checkOptions({ ...options, name: '../x' })).toThrow('--name');
    expect(planLab({ ...options, name: 'ab' }).nodes[0]?.netns.startsWith('margay-a-')).toBe(false);
  });

  test.each([
    ['nodes', 0],
    ['nodes', 21],
    ['nodes', Number.NaN],
    ['pods', 0],
    ['pods', 1.5],
  ])('%s %d is refused', (name, value) => {
    expect(() => checkOptions({ ...options, [name]: value })).toThrow(`--${name}`);
  });

  test('families decide the addresses and where etcd is', () => {
    const six = planLab({ ...options, family: 'v6' });
    expect(six.etcd.endpoint).toBe('http://[fd30::2]:2379');
    expect(Object.keys(six.nodes[0]?.addresses ?? {})).toEqual(['6']);
    const dual = planLab({ ...options, family: 'dual' });
    expect(dual.nodes[2]?.addresses).toEqual({ 4: '172.30.0.13/24', 6: 'fd30::d/64' });
    expect(dual.etcd.endpoint).toBe('http://172.30.0.2:2379');
  });

  test('without a ToR there is no legacy server', () => {
    const plan = planLab({ ...options, tor: 'none' });
    expect([plan.tor, plan.legacy]).toEqual([undefined, undefined]);
    expect(fabricCommands(plan).some((line) => line.includes('tor'))).toBe(false);
  });

  test('every node has a web server; the others are clients and strangers by turns', () => {
    const { pods } = planLab(options);
    expect(pods.map(({ name }) => name)).toEqual([
      'shop/web-1',
      'shop/client-1',
      'shop/web-2',
      'guest/stranger-2',
      'shop/web-3',
      'shop/client-3',
    ]);
  });
});

describe('configuration of the ToR', () => {
  test('BIRD has a session per node and family', () => {
    const plan = planLab({ ...options, family: 'dual' });
    if (!plan.tor) return expect.fail('no ToR');
    const text = birdConfig(plan, plan.tor);
    expect(text.match(/^protocol bgp /gm)).toHaveLength(6);
    expect(text).toContain('neighbor fd30::b as 64512');
    expect(text).toContain('local 172.30.0.1 as 64900');
  });

  test('FRR announces the legacy network of each family', () => {
    const plan = planLab({ ...options, family: 'dual', tor: 'frr' });
    if (!plan.tor) return expect.fail('no ToR');
    const text = frrConfig(plan, plan.tor);
    expect(text.match(/remote-as 64512/g)).toHaveLength(6);
    expect(text).toContain('  network 192.168.90.0/24');
    expect(text).toContain('  network fd90::/64');
  });
});

test('more nodes on the same processors get more time, fewer no less', () => {
  const nodes = (count: number) => ({ nodes: Array.from({ length: count }, () => undefined) });
  expect([1, 3, 9, 20].map((count) => patience(30_000, nodes(count)))).toEqual([30_000, 30_000, 90_000, 200_000]);
});
