import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ask, tell } from '../../../src/cli/control.ts';
import { explainPage } from '../../../src/cli/explain-page.ts';
import { anyPage } from '../../../src/cli/explain-service-page.ts';
import type { ProbedAnswer, ProbedServiceAnswer } from '../../../src/felix/explain/probe.ts';
import type { LiveAnswer } from '../../../src/felix/explain/view.ts';
import type { FlowList } from '../../../src/felix/flow-log/serve.ts';
import { PodNetwork } from '../../support/pods.ts';
import { outside, podMembers, ports } from '../../support/policy-kernel.ts';
import { root } from '../kernel/bundle.ts';

/* A running felix is asked over its control socket, and sends real packets from its pods. */

const network = new PodNetwork([...podMembers.slice(0, 2), outside], ports);
const runDir = mkdtempSync(join(tmpdir(), 'felix-'));
const bundle = mkdtempSync(join(root, 'node_modules', '.margay-bundle-'));
let felix: ChildProcess | undefined;

beforeAll(async () => {
  await network.start();
  await network.onNode('ip', 'address', 'add', '192.0.2.1/32', 'dev', 'lo');
  // What kube-proxy makes of the service.
  for (const port of [80, 85])
    await network.onNode(
      ...['iptables-nft', '-t', 'nat', '-A', 'PREROUTING', '-d', '10.96.0.10/32', '-p', 'tcp'],
      ...['--dport', String(5000 + port), '-j', 'DNAT', '--to-destination', `10.65.0.2:${port}`],
    );
  const outfile = join(bundle, 'felix.mjs');
  const entryPoints = [join(import.meta.dirname, 'explaining-felix.ts')];
  await build({ entryPoints, outfile, bundle: true, platform: 'node', format: 'esm', packages: 'external' });
  const [program = '', ...args] = [...network.launcher, process.execPath, outfile, runDir];
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  felix = child;
  await new Promise((resolve) => child.stdout.once('data', resolve));
});
afterAll(async () => {
  const ended = new Promise((resolve) => felix?.once('exit', resolve));
  felix?.stdin?.end();
  if (felix) await ended;
  await network.stop();
  for (const path of [runDir, bundle]) rmSync(path, { recursive: true });
});

const question = (to: string, family: 4 | 6) =>
  new URLSearchParams({ from: 'one/pod-0', to: `one/pod-1:${to}`, family: String(family) });
const explained = async (to: string, family: 4 | 6) =>
  (await ask(runDir, 'felix', `/v1/explain?${question(to, family)}`)) as LiveAnswer;
const probed = async (to: string, family: 4 | 6 = 4) =>
  (await tell(runDir, 'felix', `/v1/probe?${question(to, family)}`, {})) as ProbedAnswer;

const explainedFrom = async (from: string, to: string) =>
  (await ask(runDir, 'felix', `/v1/explain?${new URLSearchParams({ from, to })}`)) as LiveAnswer;

test.each([4, 6] as const)(
  'IPv%i: the rule that decides is shown as it stands, and counts the packet of a probe',
  async (family) => {
    const before = await explained('85', family);
    expect(before).toMatchObject({
      verdict: 'deny',
      live: {
        source: { line: 1, rule: expect.stringContaining('-g cali-set-accept') },
        // Line 1 tells of it.
        destination: { line: 2, rule: expect.stringContaining('-p tcp -m comment'), packets: 0 },
      },
    });
    const { probe } = await probed('85', family);
    expect(probe).toMatchObject({
      outcome: 'silent',
      agrees: true,
    });
    expect(probe.told[0]).toMatchObject({
      verdict: 'deny',
      destination: { pod: 'pod-1', port: 85 },
      reason: { by: 'policy', rule: 0 },
    });
    expect((await explained('85', family)).live.destination?.packets).toBeGreaterThan(0);
  },
);

test.each<[string, 4 | 6, object]>([
  ['80', 4, { verdict: 'allow', probe: { outcome: 'answered', agrees: true, told: [] } }],
  ['80', 6, { verdict: 'allow', probe: { outcome: 'answered', agrees: true } }],
  ['81', 4, { verdict: 'allow', probe: { outcome: 'refused', agrees: true } }],
  ['80/udp', 4, { verdict: 'allow', probe: { outcome: 'answered', agrees: true } }],
  ['81/udp', 6, { verdict: 'allow', probe: { outcome: 'refused', agrees: true } }],
  ['icmp', 4, { verdict: 'allow', probe: { outcome: 'answered', agrees: true } }],
  ['icmp', 6, { verdict: 'allow', probe: { outcome: 'answered', agrees: true } }],
])('a probe of %s over IPv%i', async (to, family, expected) => {
  expect(await probed(to, family)).toMatchObject(expected);
});

test('what others do to packets differs from what was computed', async () => {
  await network.onNode('iptables-nft', '-I', 'FORWARD', '-p', 'tcp', '--dport', '8080', '-j', 'DROP');
  const found = await probed('8080');
  expect(found).toMatchObject({ verdict: 'allow', probe: { outcome: 'silent', agrees: false, told: [] } });
  expect(explainPage(found)).toContain('! a real packet was not answered, although policy allows it');
  expect(explainPage(found)).toMatch(/decided in the kernel by line \d+ of cali-pi-/);
});

test('a probe is sent from a pod of the node, and from nowhere else', async () => {
  const to = (from: string) =>
    tell(runDir, 'felix', `/v1/probe?${new URLSearchParams({ from, to: 'one/pod-1:80' })}`, {});
  await expect(to('203.0.113.1')).rejects.toThrow(/FROM: .*expected a pod or host:NODE, as a probe is sent from one/);
  await expect(to('two/far')).rejects.toThrow('FROM: "two/far": expected a pod on this node; run this on node-2');
  await expect(to('two/pod-2')).rejects.toThrow(/expected a pod whose device is on this node/);
  await expect(to('two/none')).rejects.toThrow(/expected a pod that exists/);
});

test('a probe to a service meets what was computed of its endpoint, and is told by the translated port', async () => {
  const probe = async (port: string) => {
    const query = new URLSearchParams({ from: 'one/pod-0', to: `svc:one/web:${port}` });
    return (await tell(runDir, 'felix', `/v1/probe?${query}`, {})) as ProbedServiceAnswer;
  };
  expect(await probe('open')).toMatchObject({
    verdict: 'allow',
    service: { address: '10.96.0.10', port: 5080 },
    endpoints: [
      {
        destination: { pod: 'pod-1' },
        transport: { port: 80 },
        live: { destination: { chain: expect.stringMatching(/^cali-/) } },
      },
    ],
    probe: { outcome: 'answered', agrees: true },
  });
  const closed = await probe('closed');
  expect(closed).toMatchObject({
    verdict: 'deny',
    probe: { outcome: 'silent', agrees: true, told: [{ verdict: 'deny', destination: { pod: 'pod-1', port: 85 } }] },
  });
  expect(anyPage(closed)).toMatch(/decided in the kernel by line \d+ of cali-pi-/);
});

test('from the node itself: the host endpoint, its line in the kernel, and a packet that it counts', async () => {
  const probe = async (to: string) => {
    const query = new URLSearchParams({ from: 'host:node-1', to: `192.0.2.130:${to}` });
    return (await tell(runDir, 'felix', `/v1/probe?${query}`, {})) as ProbedAnswer;
  };
  expect(await probe('80')).toMatchObject({
    verdict: 'allow',
    live: { hosts: [{ hostEndpoint: 'edge', table: 'filter', chain: 'cali-po-edge', line: expect.any(Number) }] },
    probe: { outcome: 'answered', agrees: true },
  });
  const denied = await probe('85');
  expect(denied).toMatchObject({ verdict: 'deny', probe: { agrees: true, told: [{ verdict: 'deny' }] } });
  const { live } = await explainedFrom('host:node-1', '192.0.2.130:85');
  expect(live.hosts?.[0]?.packets).toBeGreaterThan(0);
  expect(anyPage(denied)).toMatch(/decided in the kernel by line \d+ of cali-po-edge/);
  // Before connection tracking, in a table of its own.
  const early = await explainedFrom('host:node-1', '192.0.2.130:85/udp');
  expect(early.live.hosts).toMatchObject([
    { table: 'raw', chain: 'cali-po-early', rule: expect.stringContaining('udp') },
  ]);
});

test('what was denied is in the list', async () => {
  const list = (await ask(runDir, 'felix', '/v1/flows?verdict=deny&pod=one/pod-1')) as FlowList;
  expect(list).toMatchObject({ telling: 'denied', lost: 0 });
  expect(list.flows[0]).toMatchObject({ source: { pod: 'pod-0' }, reason: { by: 'policy', rule: 0 } });
});
