import type { Benchmark } from '../benchmarks.ts';
import { measureEndpoints, measurePauses } from './endpoints.ts';
import { measureMemory } from './memory.ts';
import { measureRoutes } from './routes.ts';
import { measureRules } from './rules.ts';

/** Felix's part: `npm run bench -- felix`. */
export const felixBenchmarks: Readonly<Record<string, Benchmark>> = {
  'felix-memory': (runs = 1, signal) => measureMemory(runs, signal),
  'felix-routes-10k': (runs = 21) => measureRoutes(10_000, runs),
  'felix-routes-100k': (runs = 7) => measureRoutes(100_000, runs),
  'felix-endpoints': (runs = 3) => measureEndpoints(200, runs),
  'felix-pauses': (runs = 3) => measurePauses(runs),
  'felix-rules': (runs = 11) => measureRules(runs),
};
