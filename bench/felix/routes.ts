import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pause, systemClock } from '../../src/base/clock.ts';
import { gatewayForm } from '../../src/felix/calc/route.ts';
import { RouteTable } from '../../src/felix/calc/routes.ts';
import { RouteManager } from '../../src/felix/managers/routes.ts';
import { rehearseRoutes } from '../../src/felix/route-rehearsal.ts';
import { nextTurn } from '../../src/felix/slices.ts';
import { openNetlinkIn } from '../../src/kernel/namespace.ts';
import type { Netlink } from '../../src/kernel/types.ts';
import { ipFromNumber, parseCidr, parseIp } from '../../src/model/address.ts';
import type { Figure } from '../figure.ts';
import { collectGarbage } from './garbage.ts';
import { type Space, withSpace } from './space.ts';

/** Built by scripts/build-bench.sh. */
const program = join(import.meta.dirname, 'bench-routes');
const gateway = parseIp('192.0.2.2');
const options = { families: [4], interfacePrefix: 'cali' } as const;

/** Milliseconds by the clock, and of processor time of the whole process. */
interface Cost {
  readonly wall: number;
  readonly cpu: number;
}

/** Of one size. */
interface Times {
  readonly install: Cost[];
  /** The table is read, and the half that was taken away behind felix's back comes again. */
  readonly resync: Cost[];
  /** The table is read, and nothing has changed. */
  readonly look: Cost[];
}

function noTimes(): Times {
  return { install: [], resync: [], look: [] };
}

/**
 * Routes through a gateway, as BGP gives them: felix's route manager from its table of wishes to the kernel, beside a C
 * program that writes the same messages, and `ip -batch`. One manager serves all runs, in the state of an agent that has
 * been idle for some seconds: see src/felix/route-rehearsal.ts.
 */
export async function measureRoutes(count: number, runs: number): Promise<Figure[]> {
  const ours = noTimes();
  const theirs = noTimes();
  const batch: Cost[] = [];
  await withSpace(async (space) => {
    const files = mkdtempSync(join(tmpdir(), 'margay-bench-'));
    const netlink = openNetlinkIn(space.path);
    try {
      const file = join(files, 'routes');
      writeFileSync(file, batchOf(count));
      const agent = managerOf(netlink, count);
      await rehearseRoutes(async () => {
        await nextTurn();
        return true;
      });
      // The first of each warms caches and does not count.
      for (let run = 0; run <= runs; run++) {
        await oneOfOurs(space, agent, ours);
        await oneOfTheirs(space, count, theirs);
        batch.push(await timed(() => space.exec('ip', '-batch', file)));
        await empty(space, count);
      }
    } finally {
      netlink.close();
      rmSync(files, { recursive: true });
    }
  });
  const figures = (name: string, mine: readonly Cost[], peer: readonly Cost[], peerName: string): Figure[] =>
    (['wall', 'cpu'] as const).map((clock) => ({
      name: `felix-routes-${count}-${name}${clock === 'cpu' ? '-cpu' : ''}`,
      unit: 'ms',
      ours: mine.slice(1).map((cost) => cost[clock]),
      peer: peer.slice(1).map((cost) => cost[clock]),
      peerName,
    }));
  return [
    ...figures('install', ours.install, theirs.install, 'C program'),
    ...figures('install', ours.install, batch, 'ip -batch').slice(0, 1),
    ...figures('resync', ours.resync, theirs.resync, 'C program'),
    ...figures('unchanged', ours.look, theirs.look, 'C dump'),
  ];
}

interface Agent {
  readonly netlink: Netlink;
  readonly count: number;
  readonly manager: RouteManager;
  /** Writes what differs. */
  readonly change: () => Promise<void>;
}

function managerOf(netlink: Netlink, count: number): Agent {
  const table = new RouteTable();
  const form = gatewayForm([{ gateway }]);
  for (let i = 0; i < count; i++) table.want('bgp', parseCidr(prefixAt(i)), form);
  const manager = new RouteManager(netlink, table, options);
  const change = async () => {
    const { failures } = await manager.apply(() => true);
    if (failures[0]) throw failures[0].cause;
  };
  return { netlink, count, manager, change };
}

async function oneOfOurs(space: Space, agent: Agent, times: Times): Promise<void> {
  const { netlink, count, manager, change } = agent;
  const resync = async () => {
    await manager.read();
    await change();
  };
  await manager.read();
  await atRest();
  times.install.push(await timed(change));
  expectRoutes(netlink, count);
  await reference(space, 'delete', String(count), '2');
  await atRest();
  times.resync.push(await timed(resync));
  expectRoutes(netlink, count);
  await resync();
  await atRest();
  times.look.push(await timed(resync));
  await empty(space, count);
}

async function oneOfTheirs(space: Space, count: number, times: Times): Promise<void> {
  await atRest();
  times.install.push(await reference(space, 'add', String(count)));
  await reference(space, 'delete', String(count), '2');
  await atRest();
  times.resync.push(await reference(space, 'resync', String(count)));
  await atRest();
  times.look.push(await reference(space, 'dump'));
  await empty(space, count);
}

/**
 * Neither side pays for what was before: the kernel frees what was deleted milliseconds later, at the expense of whoever
 * works then, and what this process has left is collected when it works next.
 */
async function atRest(): Promise<void> {
  collectGarbage('minor');
  await pause(systemClock, 50, new AbortController().signal);
}

/** What the program says it took, without its start. */
async function reference(space: Space, ...args: string[]): Promise<Cost> {
  const [wall, cpu] = (await space.exec(program, ...args)).split(' ').map(Number);
  if (wall === undefined || cpu === undefined || !(wall > 0)) throw new Error('bench-routes gave no time');
  return { wall: wall / 1e6, cpu: cpu / 1e6 };
}

/** By a program that takes no part, from an empty or a full table. */
async function empty(space: Space, count: number): Promise<void> {
  await space.exec('ip', 'route', 'flush', 'proto', '80');
  const left = await space.exec('ip', 'route', 'show', 'proto', '80');
  if (left !== '') throw new Error(`${count} routes were to go, and some stayed`);
}

function expectRoutes(netlink: Netlink, count: number): void {
  const found = netlink.routes(4).filter(({ protocol }) => protocol === 80).length;
  if (found !== count) throw new Error(`the kernel has ${found} of ${count} routes`);
}

function prefixAt(i: number): string {
  return `${ipFromNumber(0x0a000000n + BigInt(i) * 64n, 4)}/26`;
}

function batchOf(count: number): string {
  return Array.from({ length: count }, (_, i) => `route replace ${prefixAt(i)} via ${gateway} proto 80\n`).join('');
}

async function timed(action: () => Promise<unknown>): Promise<Cost> {
  const [began, used] = [performance.now(), process.cpuUsage()];
  await action();
  const { user, system } = process.cpuUsage(used);
  return { wall: performance.now() - began, cpu: (user + system) / 1000 };
}
