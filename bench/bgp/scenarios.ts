import { readUpdate } from '../../src/bgp/wire/update.ts';
import { ipBytes, parseIp } from '../../src/model/address.ts';
import { type DutId, dutIds } from './duts.ts';
import {
  announcements,
  countOf,
  digestOf,
  everyTenth,
  hostRoutes,
  type RouteGroup,
  tableRoutes,
  withdrawals,
} from './stream.ts';
import { TrialError } from './tester.ts';
import { dutAddress, receiverAddress, senderAddress } from './topology.ts';
import type { Trial } from './trial.ts';

/** What one run measured; names stand behind the scenario's, the empty one for what it is about. */
export type Sample = ReadonlyMap<string, number>;

/** What testers send in a scenario, and what must come of it. */
export interface Stream {
  /** UPDATEs, one part after another. */
  readonly parts: readonly Uint8Array[];
  /** Prefixes in all. */
  readonly count: number;
  /** Of all prefixes (digestOf). */
  readonly digest: number;
}

export interface Scenario {
  readonly receivers: number;
  readonly runs: number;
  /** Units of what a sample has. */
  readonly units: Readonly<Record<string, string>>;
  /** What a measure is to be at most, where no competitor says the same. */
  readonly targets?: Readonly<Record<string, number>>;
  /** Those that cannot take part. */
  readonly without?: readonly DutId[];
  /** Most runs of slow ones when everything is measured; all runs with --full or when the scenario is named. */
  readonly most?: Partial<Record<DutId, number>>;
  stream(): Stream;
  measure(trial: Trial, stream: Stream): Promise<Sample>;
}

/** Milliseconds without anything new until the receivers read what they have. */
const quietMs = 300;
/** Seconds until a DUT must have told everything. */
const patience = 300;
/** Clients are up for so long before routes come. */
const settleMs = 1000;

/** Milliseconds: a tenth of a second at a hold time of 3 s still leaves two keepalives their time. */
const longestPause = 100;

const cost = { cpu: 's', rss: 'MB', updates: 'messages', kb: 'kB' };

const tenThousand = (): RouteGroup[] => hostRoutes(10_000, numberOf(senderAddress));
const table = (count: number) => (): RouteGroup[] => tableRoutes(count, numberOf(senderAddress));

export const scenarios: Readonly<Record<string, Scenario>> = {
  converge: converging(tenThousand, { receivers: 1, runs: 5 }),
  fanout: converging(tenThousand, { receivers: 50, runs: 3, most: { gobgp: 0 } }),
  mesh: meshing(100, 8),
  churn: churning(tenThousand),
  latency: probing(tenThousand, 50),
  join: joining(tenThousand, 3),
  'join-200k': joining(table(200_000), 1),
  'table-200k': converging(table(200_000), { receivers: 1, runs: 3, most: { gobgp: 1 } }),
  'table-1m': converging(table(1_000_000), { receivers: 1, runs: 1, most: { gobgp: 0 } }),
  pause: standing(table(1_000_000)),
};

type Scale = Pick<Scenario, 'receivers' | 'runs' | 'most'>;

/** Clients are up, then a sender tells its table: from its first octet to the last prefix at the last client. */
export function converging(routes: () => readonly RouteGroup[], scale: Scale): Scenario {
  return {
    ...scale,
    units: { '': 's', ...cost },
    stream: () => streamOf(routes()),
    measure: async (trial, stream) => {
      await trial.connect('receivers');
      await trial.connect('sender');
      await trial.idle(settleMs);
      const costs = costsOf(trial);
      const { began, told } = await sent(trial, stream, 0, stream.count);
      await check(trial, stream, told);
      return new Map([['', told.last - began], ...costs(told, scale.receivers)]);
    },
  };
}

/** As many clients as a cluster has nodes announce their routes at once, until each has those of all others. */
export function meshing(clients: number, each: number): Scenario {
  return {
    receivers: clients,
    runs: 3,
    units: { '': 's', ...cost },
    without: dutIds.filter((id) => id === 'wire'),
    stream: () => {
      const all = Array.from({ length: clients }, (_, n) => hostRoutes(each, numberOf(receiverAddress(n)), n * each));
      // Each client counts all but its own.
      const digest = Math.imul(digestOf(all.flat()), clients - 1) >>> 0;
      return { parts: all.map((groups) => announcements(groups)), count: clients * each, digest };
    },
    measure: async (trial, stream) => {
      await trial.connect('receivers');
      await trial.idle(settleMs);
      const costs = costsOf(trial);
      const { began } = await trial.receivers.sendEach(stream.parts[0]?.length ?? 0);
      const told = await trial.receivers.expect(stream.count - each, quietMs, patience);
      if (told.digest !== stream.digest) throw new TrialError('the clients hold other prefixes than were announced');
      await checkAttributes(trial);
      return new Map([['', told.last - began], ...costs(told, clients)]);
    },
  };
}

/** A tenth of the table is withdrawn, and then announced again. */
export function churning(routes: () => readonly RouteGroup[]): Scenario {
  return {
    receivers: 1,
    runs: 3,
    units: { withdraw: 's', announce: 's', cpu: 's', rss: 'MB' },
    stream: () => {
      const groups = routes();
      const tenth = everyTenth(groups);
      const parts = [announcements(groups), withdrawals(tenth), announcements(tenth)];
      return { parts, count: countOf(groups), digest: digestOf(groups) };
    },
    measure: async (trial, stream) => {
      await loaded(trial, stream);
      const costs = costsOf(trial);
      await trial.receivers.mark();
      const gone = await sent(trial, stream, 1, stream.count - Math.ceil(stream.count / 10));
      await trial.receivers.mark();
      const back = await sent(trial, stream, 2, stream.count);
      await check(trial, stream, back.told);
      const spent = costs(back.told, 1).filter(([name]) => name === 'cpu' || name === 'rss');
      return new Map([['withdraw', gone.told.last - gone.began], ['announce', back.told.last - back.began], ...spent]);
    },
  };
}

/** With a table loaded, one more prefix comes and goes; a probe is one way through the reflector. */
export function probing(routes: () => readonly RouteGroup[], pairs: number): Scenario {
  return {
    receivers: 1,
    runs: 3,
    units: { '': 'ms', p99: 'ms' },
    stream: () => {
      const groups = routes();
      const one = hostRoutes(1, numberOf(senderAddress), 2 ** 20);
      return { ...streamOf(groups), parts: [announcements(groups), announcements(one), withdrawals(one)] };
    },
    measure: async (trial, stream) => {
      await loaded(trial, stream);
      const probes: number[] = [];
      for (let i = 0; i < 2 * pairs; i++) {
        const there = i % 2 === 0;
        const { began, told } = await sent(trial, stream, there ? 1 : 2, stream.count + (there ? 1 : 0), 10);
        probes.push((told.last - began) * 1000);
      }
      probes.sort((a, b) => a - b);
      const at = (share: number) => probes[Math.floor((probes.length - 1) * share)] ?? Number.NaN;
      return new Map([
        ['', at(0.5)],
        ['p99', at(0.99)],
      ]);
    },
  };
}

/** The table is there, then a client comes: from its session to its last prefix. */
export function joining(routes: () => readonly RouteGroup[], runs: number): Scenario {
  return {
    receivers: 1,
    runs,
    units: { '': 's', ...cost },
    without: dutIds.filter((id) => id === 'wire'),
    stream: () => streamOf(routes()),
    measure: async (trial, stream) => {
      await trial.connect('sender');
      await trial.sender.send(0, stream.parts[0]?.length ?? 0);
      await trial.idle(settleMs);
      const costs = costsOf(trial);
      const began = await trial.connect('receivers');
      const told = await trial.receivers.expect(stream.count, quietMs, patience);
      await check(trial, stream, told);
      return new Map([['', told.last - began], ...costs(told, 1)]);
    },
  };
}

/** A table is told, a client comes to it late, and its sender goes away: for how long the DUT stood at the longest. */
export function standing(routes: () => readonly RouteGroup[]): Scenario {
  return {
    receivers: 1,
    runs: 1,
    units: { '': 'ms' },
    targets: { '': longestPause },
    without: dutIds.filter((id) => id !== 'margay'),
    stream: () => streamOf(routes()),
    measure: async (trial, stream) => {
      await trial.connect('sender');
      await trial.sender.send(0, stream.parts[0]?.length ?? 0);
      await trial.idle(settleMs);
      await trial.connect('receivers');
      await check(trial, stream, await trial.receivers.expect(stream.count, quietMs, patience));
      await trial.sender.close();
      await trial.receivers.expect(0, quietMs, patience);
      return new Map([['', await trial.longestPause()]]);
    },
  };
}

function streamOf(groups: readonly RouteGroup[]): Stream {
  return { parts: [announcements(groups)], count: countOf(groups), digest: digestOf(groups) };
}

type Told = Awaited<ReturnType<Trial['receivers']['expect']>>;

async function loaded(trial: Trial, stream: Stream): Promise<void> {
  await trial.connect('receivers');
  await trial.connect('sender');
  await trial.idle(settleMs);
  const { told } = await sent(trial, stream, 0, stream.count);
  await check(trial, stream, told);
  await trial.idle(0);
}

/** Sends a part, until the receivers hold `count` prefixes. */
async function sent(
  trial: Trial,
  { parts }: Stream,
  part: number,
  count: number,
  quiet = quietMs,
): Promise<{ began: number; told: Told }> {
  const offset = parts.slice(0, part).reduce((sum, { length }) => sum + length, 0);
  const telling = trial.receivers.expect(count, quiet, patience);
  const [{ began }, told] = await Promise.all([trial.sender.send(offset, parts[part]?.length ?? 0), telling]);
  return { began, told };
}

/** From now on until it is called: processor time, and per receiver what it was told. */
function costsOf(trial: Trial): (told: Told, receivers: number) => [string, number][] {
  const { cpuSeconds: before } = trial.usage();
  return ({ updates, octets }, receivers) => {
    const { cpuSeconds, peakMb } = trial.usage();
    return [
      ['cpu', cpuSeconds - before],
      ['rss', peakMb],
      ['updates', updates / receivers],
      ['kb', octets / receivers / 1000],
    ];
  };
}

/** That every client holds just what was sent, as a reflector tells it. @throws TrialError */
async function check(trial: Trial, { digest }: Stream, told: Told): Promise<void> {
  if (told.digest !== Math.imul(digest, trial.clients) >>> 0)
    throw new TrialError('a client holds other prefixes than were sent');
  await checkAttributes(trial);
}

/** One attribute set, decoded: the next hop untouched, and what a reflector adds. RFC 4456 §8. */
async function checkAttributes({ receivers, reflects }: Trial): Promise<void> {
  const { announced, faults } = readUpdate(bodyWith(await receivers.attributes()), internal, new Set([4]));
  const attributes = announced[0]?.attributes;
  if (faults[0] || !attributes) throw new TrialError(`the attributes are malformed: ${faults[0]?.message ?? 'none'}`);
  if (!attributes.nextHop?.startsWith('10.99.')) throw new TrialError(`the next hop became ${attributes.nextHop}`);
  if (reflects && !(attributes.originatorId && attributes.clusterList?.includes(parseIp(dutAddress))))
    throw new TrialError('ORIGINATOR_ID or CLUSTER_LIST is missing');
}

const internal = { fourOctetAs: true, external: false };

/** Body of an UPDATE that announces 0.0.0.0/0 with these attributes. */
function bodyWith(attributes: Uint8Array): Uint8Array {
  const length = attributes.length;
  return Uint8Array.of(0, 0, length >> 8, length & 0xff, ...attributes, 0);
}

function numberOf(address: string): number {
  return Buffer.from(ipBytes(address)).readUInt32BE();
}
