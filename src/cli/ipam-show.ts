import { indexOf, type Lists, readLists } from '../ipam/audit-index.ts';
import { addressUse, type BlockUsage, blockUsage, heldWithin, type PoolUsage, poolUsage } from '../ipam/audit-usage.ts';
import { parseCidr, parseIp } from '../model/address.ts';
import type { Deps } from './apply.ts';
import { ExitError, exitCode } from './exit.ts';
import { type Format, formatTable, print } from './output.ts';

export interface ShowOptions {
  readonly ip?: string;
  readonly cidr?: string;
  readonly blocks?: boolean;
}

/** @throws InputError; ExitError when stored objects are left out for being unreadable, after the rest is printed */
export async function showIpam({ ip, cidr, blocks }: ShowOptions, { store }: Deps, format: Format): Promise<void> {
  if (ip !== undefined && (cidr !== undefined || blocks === true))
    throw new ExitError(exitCode.usage, '--ip goes alone');
  const address = ip === undefined ? undefined : parseIp(ip, '--ip');
  const within = cidr === undefined ? undefined : parseCidr(cidr, '--cidr');
  const lists = await readLists(store);
  if (address !== undefined) {
    const use = addressUse(address, lists, indexOf(lists));
    print(format, use, () => usePage(use));
  } else if (blocks) {
    const usage = blockUsage(lists, within);
    print(format, usage, () => blockTable(usage));
  } else if (within !== undefined) {
    const held = heldWithin(within, indexOf(lists)).map(({ sequence: _, ...each }) => each);
    print(format, held, () => heldTable(held, `no address within ${within} is held`));
  } else {
    const usage = poolUsage(lists);
    print(format, usage, () => poolTable(usage));
  }
  complain(lists);
}

function complain({ blocks, endpoints, pools, reservations }: Lists): void {
  const invalid = [blocks, endpoints, pools, reservations].flatMap((page) => page.invalid);
  for (const { error } of invalid) process.stderr.write(`invalid in the datastore: ${error.message}\n`);
  if (invalid.length > 0) throw new ExitError(exitCode.failure, `${invalid.length} stored objects are invalid`);
}

function poolTable(usage: readonly PoolUsage[]): string {
  const columns = ['pool', 'cidr', 'total', 'used', 'borrowed', 'cooling', 'reserved', 'free', 'blocks'];
  const rows = usage.map(({ pool, cidr, disabled, total, used, borrowed, cooling, reserved, free, blocks }) => [
    disabled ? `${pool} (disabled)` : pool,
    cidr,
    total,
    `${used} (${share(used, total)})`,
    `${borrowed}`,
    `${cooling}`,
    reserved,
    free,
    `${blocks}`,
  ]);
  return formatTable({ columns, rows }, 'no pools');
}

/** Whole percent, rounded up, so that what is used never shows as 0 %. */
function share(used: number, total: string): string {
  const all = BigInt(total);
  return `${(BigInt(used) * 100n + all - 1n) / all}%`;
}

function blockTable(usage: readonly BlockUsage[]): string {
  const columns = ['block', 'owner', 'pool', 'total', 'used', 'borrowed', 'cooling', 'reserved', 'free'];
  const rows = usage.map(({ cidr, affinity, pool, ...counts }) => [
    cidr,
    affinity.replace(/^host:/, '') || '-',
    pool || '-',
    ...[counts.total, counts.used, counts.borrowed, counts.cooling, counts.reserved, counts.free].map(String),
  ]);
  return formatTable({ columns, rows }, 'no blocks');
}

type HeldRow = Omit<ReturnType<typeof heldWithin>[number], 'sequence'>;

function heldTable(held: readonly HeldRow[], empty: string): string {
  const columns = ['address', 'node', 'block', 'used by', 'handle', 'since'];
  const rows = held.map(({ address, block, handle = '-', attributes, usedBy }) => [
    address,
    attributes['node'] ?? '-',
    block,
    usedBy.join(', ') || '-',
    handle,
    attributes['timestamp'] ?? '-',
  ]);
  return formatTable({ columns, rows }, empty);
}

function usePage({
  address,
  state,
  usedBy,
  reservedBy,
  attributes = {},
  ...rest
}: ReturnType<typeof addressUse>): string {
  const lines = [
    ['state', state],
    ['pool', rest.pool],
    ['block', rest.block],
    ['owner', rest.affinity],
    ['handle', rest.handle],
    ...Object.entries(attributes),
    ['released', rest.releasedAt],
    ['reserved by', reservedBy?.join(', ')],
    ['used by', usedBy.join(', ') || 'no endpoint'],
  ];
  return `${address}\n${lines
    .flatMap(([name = '', value]) => (value === undefined ? [] : `  ${`${name}:`.padEnd(13)}${value}\n`))
    .join('')}`;
}
