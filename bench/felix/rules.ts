import { createLog } from '../../src/base/log.ts';
import { runCommand } from '../../src/kernel/command.ts';
import { createIptables } from '../../src/kernel/iptables/driver.ts';
import type { DesiredTable, RuleText, TableName } from '../../src/kernel/types.ts';
import type { Figure } from '../figure.ts';
import { type Space, withSpace } from './space.ts';

const [chains, rulesEach] = [1000, 10];
const backends = ['legacy', 'nft'] as const;
type Backend = (typeof backends)[number];

function chainOf(chain: number, port: number): RuleText[] {
  return Array.from(
    { length: rulesEach },
    (_, at) => `-p tcp --dport ${at === 0 ? port : 1000 + at} -s 10.${chain >> 8}.${chain & 255}.0/24 -j ACCEPT`,
  );
}

interface Times {
  readonly ours: number[];
  /** `iptables -R`. */
  readonly replace: number[];
  /** `iptables-restore --noflush`, given the one line by hand: what the program and the kernel take. */
  readonly restore: number[];
}

/** One rule of ten thousand changes: our driver, from tables to the kernel, beside the programs alone, in turns. */
export async function measureRules(runs: number): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const backend of backends) {
    const { ours, replace, restore } = await withSpace((space) => timesOf(space, backend, runs));
    const figure = (peer: readonly number[], peerName: string): Figure => ({
      ...{ name: `felix-rules-${backend}`, unit: 'ms', ours, peer },
      peerName: `${peerName} (${backend})`,
    });
    figures.push(figure(replace, 'iptables -R'), figure(restore, 'iptables-restore'));
  }
  return figures;
}

async function timesOf(space: Space, backend: Backend, runs: number): Promise<Times> {
  const log = createLog('bench', 'error');
  const launcher = ['nsenter', `--net=${space.path}`];
  const iptables = createIptables({ family: 4, backend, log, launcher });
  const held = new Map(Array.from({ length: chains }, (_, at) => [`cali-tw-bench${at}`, chainOf(at, 80)] as const));
  const dispatch = [...held.keys()].map((name): RuleText => `-o ${name.slice(8)} -g ${name}`);
  const tables = (): ReadonlyMap<TableName, DesiredTable> => {
    const all = new Map([...held, ['cali-FORWARD', dispatch] as const]);
    return new Map([['filter', { chains: all, insertions: new Map([['FORWARD', ['-j cali-FORWARD']]]) }]]);
  };
  await iptables.apply(tables());
  const times: Times = { ours: [], replace: [], restore: [] };
  // The first round warms caches and does not count.
  for (let round = 0; round <= runs; round++) {
    held.set('cali-tw-bench500', chainOf(500, 2000 + round));
    times.ours.push(
      await timed(async () => {
        const { changedChains } = await iptables.apply(tables());
        if (changedChains !== 1) throw new Error(`${changedChains} chains changed instead of one`);
      }),
    );
    const rule = `-p tcp --dport ${4000 + round} -j ACCEPT`;
    const replace = ['-w', '-R', 'cali-tw-bench501', '1', ...rule.split(' ')];
    times.replace.push(await timed(() => space.exec(`iptables-${backend}`, ...replace)));
    const input = `*filter\n-R cali-tw-bench502 1 ${rule}\nCOMMIT\n`;
    const command = [`iptables-${backend}-restore`, '--noflush', ...(backend === 'legacy' ? ['-w', '10'] : [])];
    times.restore.push(
      await timed(async () => {
        const { status, stderr } = await runCommand(command, { input, launcher, package: 'iptables' });
        if (status !== 0) throw new Error(`${command[0]}: ${stderr}`);
      }),
    );
  }
  return { ours: times.ours.slice(1), replace: times.replace.slice(1), restore: times.restore.slice(1) };
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await action();
  return performance.now() - began;
}
