import { type Reader, TruncatedError, type Writer } from '../../base/bytes.ts';
import { asTrans } from './open.ts';

export type SegmentType = 'set' | 'sequence' | 'confedSequence' | 'confedSet';

/** One segment of an AS_PATH. RFC 4271 §4.3, RFC 5065 §3. */
export interface Segment {
  readonly type: SegmentType;
  readonly asns: readonly number[];
}

export type AsPath = readonly Segment[];

const types: readonly (SegmentType | undefined)[] = [undefined, 'set', 'sequence', 'confedSequence', 'confedSet'];

/**
 * Segments up to the end of `r`, AS numbers of `width` octets.
 * @throws TruncatedError or RangeError: malformed. An empty segment and AS 0 (RFC 7607) are malformed too
 */
export function readAsPath(r: Reader, width: 2 | 4): AsPath {
  const path: Segment[] = [];
  while (r.left > 0) {
    const code = r.u8('segment.type');
    const type = types[code];
    if (!type) throw new RangeError(`segment type ${code}`);
    const count = r.u8('segment.length');
    if (count === 0) throw new RangeError('empty segment');
    if (count * width > r.left) throw new TruncatedError('segment', count * width, r.left);
    const asns: number[] = [];
    for (let i = 0; i < count; i++) {
      const asn = width === 4 ? r.u32('segment.asn') : r.u16('segment.asn');
      if (asn === 0) throw new RangeError('AS 0');
      asns.push(asn);
    }
    path.push({ type, asns });
  }
  return path;
}

/** Numbers that do not fit two octets are written as AS_TRANS. */
export function writeAsPath(w: Writer, path: AsPath, width: 2 | 4): void {
  for (const { type, asns } of path) {
    w.u8(types.indexOf(type));
    w.u8(asns.length);
    for (const asn of asns) {
      if (width === 4) w.u32(asn);
      else w.u16(asn > 0xffff ? asTrans : asn);
    }
  }
}

/** Length as the decision process counts it: a set is one, confederation segments nothing. RFC 4271 §9.1.2.2, 5065 §5.3. */
export function pathLength(path: AsPath): number {
  let length = 0;
  for (const { type, asns } of path) length += type === 'sequence' ? asns.length : type === 'set' ? 1 : 0;
  return length;
}

/** The AS that the route was learnt from: the first of a leading sequence. */
export function neighbourAs(path: AsPath): number | undefined {
  const first = path.find((segment) => segment.type === 'sequence' || segment.type === 'set');
  return first?.type === 'sequence' ? first.asns[0] : undefined;
}

/** How often any of the numbers stands in the path. */
export function occurrences(path: AsPath, wanted: readonly number[]): number {
  let count = 0;
  for (const { asns } of path) for (const asn of asns) if (wanted.includes(asn)) count++;
  return count;
}

/** Reserved for private use. RFC 6996 §5. */
export function isPrivateAs(asn: number): boolean {
  return (asn >= 64512 && asn <= 65534) || (asn >= 4200000000 && asn <= 4294967294);
}

/** The path without private AS numbers; segments left empty go. */
export function withoutPrivate(path: AsPath): AsPath {
  if (!path.some(({ asns }) => asns.some(isPrivateAs))) return path;
  return path
    .map(({ type, asns }) => ({ type, asns: asns.filter((asn) => !isPrivateAs(asn)) }))
    .filter(({ asns }) => asns.length > 0);
}

/** AS_CONFED_SEQUENCE or AS_CONFED_SET, which count nothing in a path's length. RFC 5065 §5.3. */
export function isConfederation(segment: Segment): boolean {
  return segment.type === 'confedSequence' || segment.type === 'confedSet';
}

/** `asn` before the path; a full segment (255) makes way for a new one. RFC 4271 §5.1.2. */
export function prepend(path: AsPath, asn: number): AsPath {
  const [first, ...rest] = path;
  if (first?.type === 'sequence' && first.asns.length < 255) {
    return [{ type: 'sequence', asns: [asn, ...first.asns] }, ...rest];
  }
  return [{ type: 'sequence', asns: [asn] }, ...path];
}

/**
 * The true path, from the two-octet one and AS4_PATH: the longer front of the first, then the second.
 * An AS4_PATH longer than the path is not believed. RFC 6793 §4.2.3.
 */
export function mergeAs4Path(path: AsPath, as4Path: AsPath): AsPath {
  const surplus = pathLength(path) - pathLength(as4Path);
  if (surplus < 0) return path;
  const front: Segment[] = [];
  let left = surplus;
  for (const segment of path) {
    if (isConfederation(segment)) {
      front.push(segment);
      continue;
    }
    if (left === 0) break;
    if (segment.type === 'set') {
      front.push(segment);
      left -= 1;
    } else {
      const asns = segment.asns.slice(0, left);
      front.push({ type: 'sequence', asns });
      left -= asns.length;
    }
  }
  return joined(front, as4Path);
}

/** Two paths end to end; a sequence that meets a sequence becomes one while it fits. */
function joined(front: readonly Segment[], back: AsPath): AsPath {
  const last = front.at(-1);
  const [first, ...rest] = back;
  if (last?.type === 'sequence' && first?.type === 'sequence' && last.asns.length + first.asns.length <= 255) {
    return [...front.slice(0, -1), { type: 'sequence', asns: [...last.asns, ...first.asns] }, ...rest];
  }
  return [...front, ...back];
}

/** `64512 65001 {1 2} (3 4)` */
export function formatAsPath(path: AsPath): string {
  const brackets = { sequence: ['', ''], set: ['{', '}'], confedSequence: ['(', ')'], confedSet: ['[', ']'] } as const;
  return path
    .map(({ type, asns }) => {
      const [open, close] = brackets[type];
      return `${open}${asns.join(' ')}${close}`;
    })
    .join(' ');
}
