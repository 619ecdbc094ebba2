import { randomBytes } from 'node:crypto';
import { run } from '../../src/lab/run.ts';

/** One AS, one DUT, one sender; receivers as many as asked. */
export const asn = 64512;
export const port = 179;
export const dutAddress = '10.99.0.1';
export const senderAddress = '10.99.1.1';

/** Address of the n-th receiver, from zero on. */
export function receiverAddress(n: number): string {
  return `10.99.${2 + Math.floor(n / 200)}.${1 + (n % 200)}`;
}

export type Place = 'dut' | 'sender' | 'receivers';

/** Namespaces on one bridge that leads nowhere else. */
export interface Topology {
  /** Command line that runs another one in a namespace, and ends it when this process ends. */
  within(place: Place): readonly string[];
}

/** Runs an action with fresh namespaces, and deletes them whatever happens. */
export async function withTopology<T>(receivers: number, action: (topology: Topology) => Promise<T>): Promise<T> {
  const prefix = `mbb-${process.pid}-${randomBytes(2).toString('hex')}`;
  const named = (place: Place) => `${prefix}-${place}`;
  const made: string[] = [];
  try {
    for (const place of ['dut', 'sender', 'receivers'] as const) {
      await run('ip', ['netns', 'add', named(place)]);
      made.push(named(place));
      await run('ip', ['-n', named(place), 'link', 'set', 'lo', 'up']);
    }
    for (const [place, lines] of commands(receivers, named))
      await run('ip', ['-n', named(place), '-batch', '-'], { input: `${lines.join('\n')}\n` });
    return await action({
      within: (place) => ['nsenter', `--net=/run/netns/${named(place)}`, 'setpriv', '--pdeathsig', 'KILL'],
    });
  } finally {
    for (const name of made) await run('ip', ['netns', 'delete', name]);
  }
}

/** `ip -batch` lines: the bridge is in the DUT's namespace and has its address. Pure. */
function commands(receivers: number, named: (place: Place) => string): [Place, string[]][] {
  const link = (device: string, place: Place) => [
    `link add ${device} type veth peer name eth0 netns ${named(place)}`,
    `link set ${device} master br0`,
    `link set ${device} up`,
  ];
  const host = (addresses: readonly string[]) => [
    ...addresses.map((address) => `address add ${address}/16 dev eth0`),
    'link set eth0 up',
  ];
  return [
    [
      'dut',
      [
        'link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0',
        'link set br0 up',
        `address add ${dutAddress}/16 dev br0`,
        ...link('sender', 'sender'),
        ...link('receivers', 'receivers'),
      ],
    ],
    ['sender', host([senderAddress])],
    ['receivers', host(Array.from({ length: receivers }, (_, n) => receiverAddress(n)))],
  ];
}
