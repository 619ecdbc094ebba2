/** One measured comparison: each run of ours stands beside one of the peer, taken in turns. */
export interface Figure {
  readonly name: string;
  readonly unit: string;
  readonly ours: readonly number[];
  readonly peer: readonly number[];
  /** The other competitor, or `target` for a stated budget. */
  readonly peerName: string;
}

export interface Summary {
  readonly name: string;
  readonly ours: number;
  readonly peer: number;
  readonly peerName: string;
  /** Ours divided by the peer's: below one is better than the peer. */
  readonly ratio: number;
  readonly unit: string;
  readonly runs: number;
  /** First and last decile of ours. */
  readonly spread: readonly [number, number];
}

export function summarise({ name, unit, ours, peer, peerName }: Figure): Summary {
  const middle = quantile(ours, 0.5);
  const other = quantile(peer, 0.5);
  return {
    name,
    ours: round(middle),
    peer: round(other),
    peerName,
    ratio: round(middle / other),
    unit,
    runs: ours.length,
    spread: [round(quantile(ours, 0.1)), round(quantile(ours, 0.9))],
  };
}

/** Linear between the nearest ranks. @throws RangeError for no values */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)];
  const high = sorted[Math.ceil(at)];
  if (low === undefined || high === undefined) throw new RangeError('no values to take a quantile of');
  return low + (high - low) * (at - Math.floor(at));
}

function round(value: number): number {
  return Number(value.toPrecision(3));
}
