import { InputError } from '../base/errors.ts';
import {
  bits,
  type Cidr,
  cidrOf,
  cidrParts,
  contains,
  type Family,
  familyOf,
  type Ip,
  ipBytes,
  parseCidr,
} from '../model/address.ts';
import type { IpPool } from '../model/kinds.ts';
import { type Labels, parseSelector } from '../model/selector.ts';
import { NoPoolError } from './errors.ts';

/** A pool that addresses may be taken from. */
export interface UsablePool {
  readonly name: string;
  readonly cidr: Cidr;
  readonly family: Family;
  /** Prefix length of its blocks. */
  readonly blockLength: number;
}

export type PoolUse = 'Workload' | 'Tunnel' | 'LoadBalancer';

export interface Choice {
  readonly pools: readonly IpPool[];
  readonly labels: Labels;
  readonly family: Family;
  /** Names or prefixes of pools; they are used whatever their selectors say. */
  readonly named?: readonly string[];
  readonly use?: PoolUse;
  /** Of the workload's namespace; undefined: not known, and pools that select namespaces are left out. */
  readonly namespaceLabels?: Labels;
}

/**
 * The pools of a family that a workload's address may come from: those of it that are named, in their order, and where
 * none is, all that are meant for automatic use on this node and in the workload's namespace, by name.
 * @throws NoPoolError with the reason of each pool; InputError for a name that no pool has
 */
export function choosePools({ pools, labels, family, named, use = 'Workload', namespaceLabels }: Choice): UsablePool[] {
  const ofFamily = ({ spec }: IpPool) => familyOf(parseCidr(spec.cidr)) === family;
  const wanted = named?.map((name) => findPool(pools, name)).filter(ofFamily) ?? [];
  const candidates = wanted.length === 0 ? pools.filter(ofFamily).sort(byName) : wanted;
  const automatic = wanted.length === 0 ? { labels, namespaceLabels } : undefined;
  const reasons: string[] = [];
  const usable: UsablePool[] = [];
  for (const pool of candidates) {
    const verdict = judge(pool, parseCidr(pool.spec.cidr), automatic, use);
    if (typeof verdict === 'string') reasons.push(`${pool.metadata.name} ${verdict}`);
    else usable.push(verdict);
  }
  if (usable.length === 0) throw new NoPoolError(family, reasons);
  return usable;
}

/** Name of the pool an address or block lies in; the longest prefix if several do. */
export function poolOf(pools: readonly IpPool[], inner: Ip | Cidr): IpPool | undefined {
  let best: { pool: IpPool; length: number } | undefined;
  for (const pool of pools) {
    const cidr = parseCidr(pool.spec.cidr);
    const { length } = cidrParts(cidr);
    if (contains(cidr, inner) && length > (best?.length ?? -1)) best = { pool, length };
  }
  return best?.pool;
}

/**
 * The pool of an address that is asked for by name: selectors and the way of assignment do not matter then.
 * @throws InputError when it lies in no pool; NoPoolError when the pool is not to be used so
 */
export function poolFor(address: Ip, pools: readonly IpPool[], use?: PoolUse): UsablePool {
  const pool = poolOf(pools, address);
  if (pool === undefined) throw new InputError('address', address, 'an address of a pool');
  const family = familyOf(address);
  const [usable] = choosePools({ pools, labels: {}, family, named: [pool.metadata.name], ...(use && { use }) });
  if (usable === undefined) throw new NoPoolError(family, []);
  return usable;
}

/** Prefix length of a pool's blocks: 26 or 122 unless it says otherwise. @throws InputError */
export function blockLengthOf(pool: IpPool): number {
  const { length, family } = cidrParts(parseCidr(pool.spec.cidr));
  const [least, most, usual] = family === 4 ? [20, 32, 26] : [116, 128, 122];
  const wanted = pool.spec.blockSize ?? usual;
  const field = `IPPool(${pool.metadata.name}).spec.blockSize`;
  if (wanted < least || wanted > most) throw new InputError(field, wanted, `${least} to ${most}`);
  if (wanted < length) throw new InputError(field, wanted, `at least ${length}, the pool's own prefix length`);
  return wanted;
}

/** Who asks for any pool. */
interface Asker {
  /** Of the node. */
  readonly labels: Labels;
  readonly namespaceLabels: Labels | undefined;
}

/** The pool as it may be used, or why not. @param asker undefined leaves selectors out @param use undefined: any */
function judge(pool: IpPool, cidr: Cidr, asker: Asker | undefined, use?: PoolUse): UsablePool | string {
  try {
    const reason = unusable(pool, use) ?? (asker && notAutomatic(pool, asker));
    if (reason !== undefined) return reason;
    return { name: pool.metadata.name, cidr, family: familyOf(cidr), blockLength: blockLengthOf(pool) };
  } catch (thrown) {
    // One bad pool leaves the others usable; its fault shows when there are none.
    if (thrown instanceof InputError) return `is invalid (${thrown.message})`;
    throw thrown;
  }
}

/** The block an address lies in, by its pool; undefined without a usable one, when only the blocks themselves tell. */
export function blockOf(pools: readonly IpPool[], address: Ip): Cidr | undefined {
  const pool = poolOf(pools, address);
  const verdict =
    pool && judge({ ...pool, spec: { ...pool.spec, disabled: false } }, parseCidr(pool.spec.cidr), undefined);
  return typeof verdict === 'object' ? cidrOf(ipBytes(address), verdict.blockLength) : undefined;
}

function findPool(pools: readonly IpPool[], text: string): IpPool {
  const found = pools.find(({ metadata, spec }) => metadata.name === text || spec.cidr === text);
  if (found) return found;
  const names = pools.map(({ metadata }) => metadata.name).join(', ');
  throw new InputError('pools', text, names === '' ? 'a pool, but there is none' : `a pool's name or prefix: ${names}`);
}

function unusable({ spec, metadata }: IpPool, use: PoolUse | undefined): string | undefined {
  if ('deletionTimestamp' in metadata && metadata.deletionTimestamp) return 'is being deleted';
  if (spec.disabled) return 'is disabled';
  if (use && !spec.allowedUses.includes(use)) return `allows only ${spec.allowedUses.join(', ')}`;
  return undefined;
}

function notAutomatic({ spec, metadata }: IpPool, { labels, namespaceLabels }: Asker): string | undefined {
  if (spec.assignmentMode !== 'Automatic') return `is for ${spec.assignmentMode.toLowerCase()} assignment`;
  const field = `IPPool(${metadata.name}).spec`;
  if (!parseSelector(spec.nodeSelector, `${field}.nodeSelector`).matches(labels))
    return `does not select this node (${spec.nodeSelector})`;
  const { namespaceSelector } = spec;
  if (!namespaceSelector || namespaceSelector.trim() === 'all()') return undefined;
  if (namespaceLabels === undefined) return `selects namespaces (${namespaceSelector}), and none is known`;
  return parseSelector(namespaceSelector, `${field}.namespaceSelector`).matches(namespaceLabels)
    ? undefined
    : `does not select the namespace (${namespaceSelector})`;
}

function byName(a: IpPool, b: IpPool): number {
  return a.metadata.name < b.metadata.name ? -1 : 1;
}

/** Blocks in a pool. */
export function blockCount({ cidr, family, blockLength }: UsablePool): bigint {
  return 1n << BigInt(Math.min(bits(family), blockLength) - cidrParts(cidr).length);
}
