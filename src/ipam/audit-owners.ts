import type { Block, BlockAffinity } from '../model/ipam.ts';
import { isConfirmed } from './affinity.ts';
import type { Finding } from './audit.ts';
import { type Held, handleName, type Index, type Lists, ownerOf } from './audit-index.ts';
import { isEmpty, sameHandle, windowsReserved } from './block.ts';

/* The audit of who owns what: handles of addresses, and affinities of blocks. Pure. */

/** An argument as a shell takes it. */
export function shellWord(text: string): string {
  return /^[\w.:/@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Frees the address, unless somebody else holds it by then. */
export function releaseCommand({ address, handle }: Held): string {
  const condition = handle === undefined ? '' : ` --handle ${shellWord(handleName(handle))}`;
  return `margayctl ipam release --ip ${address}${condition}`;
}

/** @param held the addresses that are no leaks: a leak's repair needs no handle */
export function auditHandles(held: readonly Held[], { handles, blocks }: Lists, index: Index): Finding[] {
  const counts = new Map(handles.entries.map(({ key, value }) => [handleName(key.id), value.block]));
  const hidden = new Set(handles.invalid.flatMap(({ key }) => (key.type === 'Handle' ? [handleName(key.id)] : [])));
  const without = held.flatMap((each): Finding[] => {
    const { address, block, handle, attributes } = each;
    if (handle === undefined || sameHandle(handle, windowsReserved)) return [];
    const id = handleName(handle);
    if (hidden.has(id) || counts.get(id)?.[block] !== undefined) return [];
    return [
      {
        problem: 'addressWithoutHandle',
        subject: address,
        ...(attributes['node'] !== undefined && { node: attributes['node'] }),
        detail: `held by ${id}, ${counts.has(id) ? `which names no address of ${block}` : 'which is not there'}`,
        repair: `once what uses it is gone: ${releaseCommand(each)}`,
      },
    ];
  });
  const holding = new Set(index.held.flatMap(({ handle }) => (handle === undefined ? [] : [handleName(handle)])));
  const unread = new Set<string>(blocks.invalid.flatMap(({ key }) => (key.type === 'Block' ? [key.cidr] : [])));
  const orphans = handles.entries.flatMap(({ key: { id }, value }): Finding[] => {
    const named = Object.keys(value.block);
    if (holding.has(handleName(id)) || named.some((cidr) => unread.has(cidr))) return [];
    return [
      {
        problem: 'orphanedHandle',
        subject: id,
        detail: named.length === 0 ? 'names no block' : `holds no address in ${named.join(', ')}`,
        repair: `margayctl ipam release --handle ${shellWord(id)}`,
      },
    ];
  });
  return [...without, ...orphans];
}

/**
 * Affinities without a block, blocks without their affinity, and those of nodes that are gone; what cannot be read
 * proves nothing.
 */
export function auditAffinities(index: Index, { affinities, blocks, nodes }: Lists): Finding[] {
  const known = new Set<string>();
  for (const { key } of [...affinities.entries, ...affinities.invalid])
    if (key.type === 'BlockAffinity') known.add(`${key.host} ${key.cidr}`);
  const unread = new Set<string>(blocks.invalid.flatMap(({ key }) => (key.type === 'Block' ? [key.cidr] : [])));
  const isGone = (node: string) => nodes.invalid.length === 0 && !index.nodes.has(node);
  const ofAffinities = affinities.entries.flatMap(({ key: { host, cidr }, value }): Finding[] => {
    if (unread.has(cidr)) return [];
    const finding = judged(host, value, index.blocks.get(cidr));
    if (isGone(host)) return [about('orphanedAffinity', { cidr, host }, `node ${host} is gone`, 'release')];
    return finding ? [about(finding.problem, { cidr, host }, finding.detail, finding.verb)] : [];
  });
  const ofBlocks = [...index.blocks.values()].flatMap((block): Finding[] => {
    const { cidr } = block;
    const host = ownerOf(block);
    if (host === undefined || known.has(`${host} ${cidr}`)) return [];
    const detail = `the block is ${host}'s, which has no affinity to it`;
    return [about('blockWithoutAffinity', { cidr, host }, detail, isGone(host) ? 'release' : 'claim')];
  });
  return [...ofAffinities, ...ofBlocks];
}

interface Judgement {
  readonly problem: Finding['problem'];
  readonly detail: string;
  readonly verb: 'claim' | 'release';
}

function judged(host: string, affinity: BlockAffinity, block: Block | undefined): Judgement | undefined {
  const state = affinity.state || 'confirmed';
  if (block === undefined)
    return { problem: 'affinityWithoutBlock', detail: `${state}, but there is no such block`, verb: 'release' };
  if (ownerOf(block) !== host) {
    const whose = block.affinity ? `belongs to ${block.affinity}` : 'belongs to nobody';
    return { problem: 'affinityWithoutBlock', detail: `${state}, but the block ${whose}`, verb: 'release' };
  }
  if (isConfirmed(affinity)) return undefined;
  // The node goes on with a block that is in use, and needs none that is empty.
  const verb = affinity.state === 'pending' || !isEmpty(block) ? 'claim' : 'release';
  return { problem: 'unfinishedAffinity', detail: `is still ${state}`, verb };
}

function about(
  problem: Finding['problem'],
  { cidr, host }: { readonly cidr: string; readonly host: string },
  detail: string,
  verb: 'claim' | 'release',
): Finding {
  const repair = `margayctl ipam ${verb} --block ${cidr} --node ${shellWord(host)}`;
  return { problem, subject: cidr, node: host, detail, repair };
}
