import { type Audit, audit, type Finding } from '../ipam/audit.ts';
import { type Held, type Index, indexOf, type Lists, ownerOf } from '../ipam/audit-index.ts';
import type { Action } from './action.ts';

/*
 * Garbage collection of addresses: out of what an audit finds, what is freed now. Pure. Lost addresses wait for the
 * grace period, except those of nodes that are gone. What is done is judged by lists that were read after the finding,
 * and is conditional on the assignment or revision that was judged.
 */

/** What was found at earlier looks: identity of the loss → monotonic seconds of its first sight. */
export type Seen = ReadonlyMap<string, number>;

export interface Collection {
  readonly actions: readonly Action[];
  readonly seen: Seen;
  /** Addresses that are lost and wait for their grace period, by node. */
  readonly waiting: ReadonlyMap<string, number>;
}

export interface CollectionOptions {
  /** Monotonic. */
  readonly nowSeconds: number;
  /** 0: nothing is freed. */
  readonly graceSeconds: number;
}

/** An address younger than this is no loss, whatever became of its node: its endpoint may be about to be written. */
export const youngSeconds = 60;

/** Findings of the moment; the collection keeps its own grace period. */
export function auditNow(lists: Lists, now: Date): Audit {
  return audit(lists, { now, graceSeconds: youngSeconds });
}

/**
 * @param findings what stands at two looks in a row
 * @param lists those of the second look
 */
export function collect(
  findings: readonly Finding[],
  lists: Lists,
  before: Seen,
  { nowSeconds, graceSeconds }: CollectionOptions,
): Collection {
  const places = placesOf(lists);
  const losses = findings.flatMap((finding) => lossesOf(finding, places));
  const seen = new Map(losses.map(({ id }) => [id, before.get(id) ?? nowSeconds]));
  const isDue = ({ id, nodeGone }: Loss) =>
    graceSeconds > 0 && (nodeGone || nowSeconds - (seen.get(id) ?? nowSeconds) >= graceSeconds);
  const waiting = new Map<string, number>();
  for (const loss of losses)
    if (!isDue(loss) && loss.action.do === 'releaseAddress') {
      const { node = '' } = loss.action.holder;
      waiting.set(node, (waiting.get(node) ?? 0) + 1);
    }
  const due = losses.filter(isDue).map(({ action }) => action);
  return { actions: [...due].sort((a, b) => rank(a) - rank(b)), seen, waiting };
}

/** Addresses before the handles that they leave, and both before the blocks. */
function rank(action: Action): number {
  if (action.do === 'releaseAddress') return 0;
  return action.do === 'releaseAffinity' ? 2 : 1;
}

interface Loss {
  readonly id: string;
  readonly nodeGone: boolean;
  readonly action: Action;
}

/** Where what a finding names is found. */
interface Places {
  readonly lists: Lists;
  readonly index: Index;
  readonly held: ReadonlyMap<string, readonly Held[]>;
  readonly handles: ReadonlyMap<string, readonly Lists['handles']['entries'][number][]>;
}

function placesOf(lists: Lists): Places {
  const index = indexOf(lists);
  return {
    ...{ lists, index },
    held: Map.groupBy(index.held, ({ address }) => address),
    handles: Map.groupBy(lists.handles.entries, ({ key }) => key.id),
  };
}

function lossesOf(finding: Finding, places: Places): Loss[] {
  switch (finding.problem) {
    case 'leak':
      return (places.held.get(finding.subject) ?? []).map((held) => lostAddress(held, finding, places));
    case 'orphanedHandle':
      return (places.handles.get(finding.subject) ?? []).map(({ key, revision }) => ({
        id: `handle ${key.id} ${revision}`,
        nodeGone: false,
        // By its revision: an assignment that began since counts in it first.
        action: { do: 'delete', why: 'orphanedHandle', key, revision },
      }));
    case 'orphanedAffinity':
    case 'blockWithoutAffinity':
      return lostBlock(finding, places);
    default:
      return [];
  }
}

function lostAddress({ address, handle, sequence, attributes }: Held, { detail }: Finding, places: Places): Loss {
  const { node, namespace, pod } = attributes;
  const nodeGone = node !== undefined && isGone(node, places);
  return {
    id: `address ${address} ${handle ?? ''} ${sequence ?? ''}`,
    nodeGone,
    action: {
      do: 'releaseAddress',
      why: 'leak',
      address,
      ...(handle !== undefined && { handle }),
      ...(sequence !== undefined && { sequence }),
      holder: { ...(node !== undefined && { node }), ...(namespace && { namespace }), ...(pod && { pod }) },
      ...(nodeGone && { unlessNode: node }),
      detail,
    },
  };
}

/** Blocks of nodes that are gone; those of the others are the nodes' own to mend. */
function lostBlock({ subject, node }: Finding, places: Places): Loss[] {
  const { index, lists } = places;
  const block = [...index.blocks.values()].find(({ cidr }) => cidr === subject);
  const affinity = lists.affinities.entries.find(({ key }) => key.cidr === subject && key.host === node);
  const cidr = affinity?.key.cidr ?? (block && ownerOf(block) === node ? block.cidr : undefined);
  if (node === undefined || cidr === undefined || !isGone(node, places)) return [];
  const action = { do: 'releaseAffinity', why: 'orphanedAffinity', host: node, cidr, unlessNode: node } as const;
  return [{ id: `affinity ${cidr} ${node}`, nodeGone: true, action }];
}

function isGone(node: string, { index, lists }: Places): boolean {
  return lists.nodes.invalid.length === 0 && !index.nodes.has(node);
}
