import type { Benchmark } from '../benchmarks.ts';
import { measureExplain } from './explain.ts';
import { measurePackets } from './packets.ts';
import { measureScale } from './scale.ts';

/** Policy's part: `npm run bench -- policy`. */
export const policyBenchmarks: Readonly<Record<string, Benchmark>> = {
  'policy-scale': (runs = 3) => measureScale(runs),
  'policy-explain': (runs = 3) => measureExplain(runs),
  'policy-packets': (runs = 5) => measurePackets(runs),
};
