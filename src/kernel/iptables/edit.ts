import type { TaggedRule } from './rules.ts';

/** Above this many comparisons a changed stretch is replaced rule by rule instead of aligned. */
const alignmentLimit = 250_000;

/**
 * Lines that turn a chain with the hashes `have` into the rules `want`, by line number, so that rules which stay keep
 * their packet counters. For chains that nobody else edits: numbers are as of the last reading.
 */
export function editChain(chain: string, have: readonly string[], want: readonly TaggedRule[]): string[] {
  let start = 0;
  while (start < have.length && start < want.length && have[start] === want[start]?.hash) start++;
  let tail = 0;
  while (
    tail < Math.min(have.length, want.length) - start &&
    have[have.length - 1 - tail] === want[want.length - 1 - tail]?.hash
  )
    tail++;
  const old = have.slice(start, have.length - tail);
  const now = want.slice(start, want.length - tail);
  return script(chain, start + 1, old, now, tail === 0);
}

/** @param first line number of the stretch @param atEnd nothing follows it */
function script(chain: string, first: number, old: readonly string[], now: readonly TaggedRule[], atEnd: boolean) {
  const keeps = align(old, now);
  const lines: string[] = [];
  let line = first;
  let i = 0;
  let j = 0;
  for (const [keptOld, keptNow] of [...keeps, [old.length, now.length] as const]) {
    for (; i < keptOld && j < keptNow; i++, j++) lines.push(`-R ${chain} ${line++} ${now[j]?.text}`);
    for (; i < keptOld; i++) lines.push(`-D ${chain} ${line}`);
    for (; j < keptNow; j++)
      lines.push(atEnd && i === old.length ? `-A ${chain} ${now[j]?.text}` : `-I ${chain} ${line++} ${now[j]?.text}`);
    i++;
    j++;
    line++;
  }
  return lines;
}

/** Pairs of positions that hold the same rule: a longest common subsequence. */
function align(old: readonly string[], now: readonly TaggedRule[]): (readonly [number, number])[] {
  const [rows, columns] = [old.length, now.length];
  if (rows === 0 || columns === 0 || rows * columns > alignmentLimit) return [];
  const width = columns + 1;
  // common[i * width + j]: length of the longest common subsequence of old[i…] and now[j…].
  const common = new Uint32Array((rows + 1) * width);
  const at = (i: number, j: number) => common[i * width + j] ?? 0;
  for (let i = rows - 1; i >= 0; i--)
    for (let j = columns - 1; j >= 0; j--)
      common[i * width + j] = old[i] === now[j]?.hash ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  const pairs: (readonly [number, number])[] = [];
  for (let i = 0, j = 0; i < rows && j < columns; )
    if (old[i] === now[j]?.hash) pairs.push([i++, j++]);
    else if (at(i + 1, j) >= at(i, j + 1)) i++;
    else j++;
  return pairs;
}
