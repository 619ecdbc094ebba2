import { createLog } from '../../src/base/log.ts';
import { createIptables } from '../../src/kernel/iptables/driver.ts';
import type { DesiredTable, RuleText, TableName } from '../../src/kernel/types.ts';
import type { Figure } from '../figure.ts';
import { withSpace } from './space.ts';

const [chains, rulesEach] = [1000, 10];

function chainOf(chain: number, port: number): RuleText[] {
  return Array.from(
    { length: rulesEach },
    (_, at) => `-p tcp --dport ${at === 0 ? port : 1000 + at} -s 10.${chain >> 8}.${chain & 255}.0/24 -j ACCEPT`,
  );
}

/** One rule of ten thousand changes: our driver, from tables to the kernel, beside `iptables -R`, for each backend. */
export async function measureRules(runs: number): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const backend of ['legacy', 'nft'] as const)
    await withSpace(async (space) => {
      const log = createLog('bench', 'error');
      const iptables = createIptables({ family: 4, backend, log, launcher: ['nsenter', `--net=${space.path}`] });
      const held = new Map(Array.from({ length: chains }, (_, at) => [`cali-tw-bench${at}`, chainOf(at, 80)] as const));
      const dispatch = [...held.keys()].map((name): RuleText => `-o ${name.slice(8)} -g ${name}`);
      const tables = (): ReadonlyMap<TableName, DesiredTable> => {
        const all = new Map([...held, ['cali-FORWARD', dispatch] as const]);
        return new Map([['filter', { chains: all, insertions: new Map([['FORWARD', ['-j cali-FORWARD']]]) }]]);
      };
      await iptables.apply(tables());
      const ours: number[] = [];
      const peer: number[] = [];
      for (let round = 0; round < runs; round++) {
        held.set('cali-tw-bench500', chainOf(500, 2000 + round));
        const began = performance.now();
        const { changedChains } = await iptables.apply(tables());
        ours.push(performance.now() - began);
        if (changedChains !== 1) throw new Error(`${changedChains} chains changed instead of one`);
      }
      for (let round = 0; round < runs; round++) {
        const rule = ['-p', 'tcp', '--dport', String(4000 + round), '-j', 'ACCEPT'];
        const began = performance.now();
        await space.exec(`iptables-${backend}`, '-w', '-R', 'cali-tw-bench501', '1', ...rule);
        peer.push(performance.now() - began);
      }
      figures.push({ name: `felix-rules-${backend}`, unit: 'ms', ours, peer, peerName: `iptables -R (${backend})` });
    });
  return figures;
}
