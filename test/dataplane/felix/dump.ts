import type { Namespace } from './support.ts';

/* All that a network namespace holds of what an agent may touch, in lines that compare. */

export type Dump = Readonly<Record<string, readonly string[]>>;

const programs = ['iptables-legacy', 'iptables-nft', 'ip6tables-legacy', 'ip6tables-nft'] as const;

const commands: Readonly<Record<string, readonly string[]>> = {
  links: ['ip', '-d', '-o', 'link'],
  addresses: ['ip', '-o', 'address'],
  routes: ['ip', 'route', 'show', 'table', 'all'],
  routes6: ['ip', '-6', 'route', 'show', 'table', 'all'],
  rules: ['ip', 'rule'],
  rules6: ['ip', '-6', 'rule'],
  neighbours: ['ip', 'neighbour', 'show', 'nud', 'permanent'],
  proxies: ['ip', 'neighbour', 'show', 'proxy'],
  forwarding: ['bridge', 'fdb', 'show'],
  queues: ['tc', 'qdisc', 'show'],
  sets: ['ipset', 'save'],
  sysctls: ['sh', '-c', 'sysctl -a --pattern "^net\\." 2>/dev/null'],
  ...Object.fromEntries(programs.map((program) => [program, [`${program}-save`, '-c']])),
};

/** What comes and goes by itself, and what the kernel counts of connections. */
const restless = /^(fe80::|multicast|anycast|ff00::)|proto kernel metric 256|nf_conntrack_count/;

/** Rules with their counters; the kernel's own chains without, as every packet counts there. */
export async function dump(namespace: Namespace): Promise<Dump> {
  const found = await Promise.all(
    Object.entries(commands).map(async ([name, command]) => {
      const text = await namespace.exec(...command);
      return [name, /-save$/.test(command[0] ?? '') ? rulesOf(text) : linesOf(text)] as const;
    }),
  );
  return Object.fromEntries(found);
}

function linesOf(text: string): string[] {
  return text.split('\n').flatMap((line) => {
    // A bridge says how far its timers are.
    const trimmed = line.trimEnd().replace(/_timer +[\d.]+/g, '');
    return trimmed === '' || restless.test(trimmed) ? [] : [trimmed];
  });
}

/** Tables that hold nothing stay once they were used (legacy knows no way back), and say nothing. */
function rulesOf(text: string): string[] {
  return text.split(/^(?=\*)/m).flatMap((table) => {
    const lines = linesOf(table).filter((line) => !/^#|^COMMIT/.test(line));
    const plain = lines.map((line) => line.replace(/^(:[A-Z]+ [A-Z]+) \[.*/, '$1'));
    return plain.some((line) => !/^\*|^:[A-Z]+ ACCEPT$/.test(line)) ? plain : [];
  });
}

/** What is in a dump and not in the other, with its place. */
export function beyond(dumped: Dump, other: Dump): string[] {
  return Object.entries(dumped).flatMap(([name, lines]) => {
    const known = new Set(other[name]);
    return lines.filter((line) => !known.has(line)).map((line) => `${name}: ${line}`);
  });
}
