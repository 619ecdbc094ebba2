import { acceptOpen } from '../../src/bgp/negotiate.ts';
import { WireError } from '../../src/bgp/wire/errors.ts';
import { type Frame, readFrame } from '../../src/bgp/wire/framing.ts';
import { readRefresh } from '../../src/bgp/wire/message.ts';
import { cidrsOf } from '../../src/bgp/wire/nlri.ts';
import { describeNotification, readNotification } from '../../src/bgp/wire/notification.ts';
import { readOpen } from '../../src/bgp/wire/open.ts';
import { readUpdate, type Update } from '../../src/bgp/wire/update.ts';
import { writeAnnouncements } from '../../src/bgp/wire/write-update.ts';
import type { Family } from '../../src/model/address.ts';
import { parseIp } from '../../src/model/address.ts';
import { cidrWriter, corpus } from './corpus.ts';
import { mutate, Random } from './mutation.ts';

const both: ReadonlySet<Family> = new Set<Family>([4, 6]);
const config = {
  asn: 64512,
  identifier: parseIp('10.0.0.1'),
  peerAsn: 65001,
  families: [4, 6],
  holdSeconds: 90,
  restart: { restarted: false, restartSeconds: 120, preserved: false },
  initiative: 'dial',
  connectRetrySeconds: 1,
  idleHoldSeconds: 1,
} as const;

/** What became of a stream of messages: taken, incomplete, or refused with a code and subcode. */
export type Outcome = string;

/** A stream that did something else than a session may do. */
export class Finding extends Error {
  override readonly name = 'Finding';
  constructor(
    readonly octets: Uint8Array,
    cause: unknown,
  ) {
    super(`${Buffer.from(octets).toString('hex')}: ${cause instanceof Error ? cause.stack : String(cause)}`, { cause });
  }
}

/** Takes a stream as a session would. @throws Finding unless it is taken, incomplete, or a reset with its code */
export function feed(stream: Uint8Array, fourOctetAs: boolean, external: boolean): Outcome {
  try {
    for (let at = 0; ; ) {
      const frame = readFrame(stream, at, external ? 4096 : 65_535);
      if (!frame) return at === stream.length ? 'taken' : 'incomplete';
      at += frame.length;
      take(frame, fourOctetAs, external);
    }
  } catch (thrown) {
    if (thrown instanceof WireError && thrown.remedy === 'reset') return `${thrown.code}/${thrown.subcode}`;
    throw new Finding(stream, thrown);
  }
}

function take(frame: Frame, fourOctetAs: boolean, external: boolean): void {
  switch (frame.type) {
    case 'open':
      acceptOpen(readOpen(frame.body), config);
      break;
    case 'update':
      passOn(readUpdate(frame.body, { fourOctetAs, external }, both));
      break;
    case 'notification':
      describeNotification(readNotification(frame.body));
      break;
    case 'refresh':
      readRefresh(frame.body);
      break;
    case 'keepalive':
      break;
  }
}

/** What is accepted can be told to the next speaker, who finds no fault in it: nothing bad is passed on. */
function passOn(update: Update): void {
  for (const { remedy } of update.faults) if (remedy === 'reset') throw new Error('a reset among the faults');
  for (const block of update.withdrawn) cidrsOf(block);
  for (const { block, attributes } of update.announced) {
    const codec = { fourOctetAs: true, external: false };
    const prefixes = cidrsOf(block);
    const messages = writeAnnouncements(block.family, attributes, codec, prefixes, cidrWriter(block.family)) ?? [];
    for (const message of messages) {
      const frame = readFrame(message);
      if (!frame) throw new Error('wrote an incomplete message');
      const [fault] = readUpdate(frame.body, codec, both).faults;
      if (fault) throw new Error(`passed on: ${fault.message}`);
    }
  }
}

/** Feeds `count` mutated messages; the seed determines them. Returns how often each outcome came. */
export function fuzz(seed: number, count: number): Map<Outcome, number> {
  const random = new Random(seed);
  const pick = () => corpus[random.below(corpus.length)] ?? new Uint8Array(19);
  const outcomes = new Map<Outcome, number>();
  for (let i = 0; i < count; i++) {
    const flags = random.below(4);
    const outcome = feed(mutate(pick(), pick(), random), (flags & 1) !== 0, (flags & 2) !== 0);
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  return outcomes;
}
