import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { HandedNamespaces } from '../../../src/cni/handed-namespaces.ts';
import { openPodNamespace } from '../../../src/cni/pod.ts';
import { startCniServer } from '../../../src/cni/server.ts';
import { inNamespace } from '../../../src/kernel/namespace.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { conf } from '../../unit/cni/fakes.ts';
import { Namespaces } from './namespaces.ts';

/*
 * The launcher sees the pod's namespace at a path that leads nowhere here, as an agent without a mount of the host's
 * namespaces: it hands the namespace itself over.
 */

const log = pino({ level: 'silent' });
const root = join(import.meta.dirname, '../../..');
const namespaces = new Namespaces();
let folder: string;
let socketPath: string;
let clock: ManualClock;
let handed: HandedNamespaces;
let stop: AbortController;
let closed: Promise<void>;
/** What the agent's `action` gave for the namespace of the last request. */
let seen: unknown;
let action: (netns: string) => unknown;

beforeAll(() => void execFileSync(join(root, 'scripts/build-launcher.sh')));
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'margay-handed-'));
  socketPath = join(folder, 'cni.sock');
  clock = new ManualClock();
  stop = new AbortController();
  handed = new HandedNamespaces(socketPath, clock, log);
  const handle = ({ env }: { env: Readonly<Record<string, string | undefined>> }) =>
    handed.during(env['CNI_NETNS'], async () => {
      seen = action(env['CNI_NETNS'] ?? '');
      return { exitCode: 0, stdout: '{}' };
    });
  ({ closed } = await startCniServer({ socketPath, handler: { handle }, log, signal: stop.signal }));
});
afterEach(async () => {
  stop.abort();
  await closed;
  handed.close();
  namespaces.clear();
  rmSync(folder, { recursive: true, force: true });
});

const elsewhere = () => join(folder, 'there/pod');

/** An ADD by the launcher, which alone has the namespace mounted below the folder. */
async function add(netns: string): Promise<number> {
  const script = `mkdir -p ${folder}/there && mount -t tmpfs none ${folder}/there && touch ${elsewhere()} \\
    && mount --bind ${netns} ${elsewhere()} && exec ${root}/dist/margay-cni`;
  const env = { ...process.env, CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c1', CNI_IFNAME: 'eth0', CNI_NETNS: elsewhere() };
  const child = spawn('unshare', ['--mount', 'sh', '-c', script], { env: { ...env, MARGAY_CNI_SOCKET: socketPath } });
  child.stdin.end(JSON.stringify(conf));
  const [code] = (await once(child, 'close')) as [number];
  return code;
}

/** How often this process has a namespace open. */
function open(netns: string): number {
  const { dev, ino } = statSync(netns);
  const files = readdirSync('/proc/self/fd').map((fd) => statSync(`/proc/self/fd/${fd}`, { throwIfNoEntry: false }));
  return files.filter((file) => file?.dev === dev && file.ino === ino).length;
}

test('a request reaches the namespace by the path that it has on the host, for as long as it takes', async () => {
  const netns = namespaces.add();
  action = (path) => {
    expect(open(netns)).toBe(1);
    openPodNamespace(path).close();
    return inNamespace(path, () => readlinkSync('/proc/thread-self/ns/net'));
  };
  expect(await add(netns)).toBe(0);
  expect(seen).toBe(`net:[${statSync(netns).ino}]`);
  expect(() => openPodNamespace(elsewhere())).toThrow('CNI_NETNS');
  expect(open(netns)).toBe(0);
});

test("the node's own namespace is refused as by its path", async () => {
  action = (path) => {
    try {
      return openPodNamespace(path).close();
    } catch (thrown) {
      return thrown;
    }
  };
  await add('/proc/self/ns/net');
  expect(String(seen)).toContain("the node's own namespace");
});

test('what nobody asks about is let go after a minute', async () => {
  const netns = namespaces.add();
  action = () => undefined;
  // The request of a launcher that ended goes by another socket, and never comes.
  stop.abort();
  await closed;
  expect(await add(netns)).toBe(1);
  await handed.during(undefined, async () => expect(open(netns)).toBe(1));
  clock.advance(60_000);
  expect(open(netns)).toBe(0);
});
