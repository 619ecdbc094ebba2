/** Random numbers that a seed determines (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0 to below `bound`. */
  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  }
}

const headerLength = 19;
/** Values at which lengths and counts go wrong. */
const edges = [0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 127, 128, 129, 254, 255];

/**
 * A message with a few octets changed, put in, taken out, doubled, or taken from another. The marker stays, since nothing
 * behind a broken one is read; most of the time the length field is made right again, so that the body is reached.
 */
export function mutate(message: Uint8Array, other: Uint8Array, random: Random): Uint8Array {
  let octets = [...message.subarray(16)];
  for (let changes = 1 + random.below(5); changes > 0; changes--) octets = changed(octets, other, random);
  const whole = Uint8Array.from([...message.subarray(0, 16), ...octets]);
  if (whole.length >= headerLength && random.below(8) > 0) {
    const length = Math.min(whole.length, 4096);
    whole[16] = length >> 8;
    whole[17] = length & 0xff;
  }
  return whole;
}

function changed(octets: number[], other: Uint8Array, random: Random): number[] {
  if (octets.length === 0) return [random.below(256)];
  const at = random.below(octets.length);
  const span = 1 + random.below(8);
  switch (random.below(7)) {
    case 0:
      return octets.with(at, random.below(256));
    case 1:
      return octets.with(at, edges[random.below(edges.length)] ?? 0);
    case 2:
      return octets.with(at, (octets[at] ?? 0) ^ (1 << random.below(8)));
    case 3:
      return octets.toSpliced(at, span);
    case 4:
      return octets.toSpliced(at, 0, ...Array.from({ length: span }, () => random.below(256)));
    case 5:
      return octets.toSpliced(at, 0, ...octets.slice(at, at + span * 4));
    default: {
      const from = random.below(other.length);
      return octets.toSpliced(at, span, ...other.subarray(from, from + span * 4));
    }
  }
}
