import type { Benchmark } from '../benchmarks.ts';
import { measureRoutes } from './routes.ts';

/** Felix's part: `npm run bench -- felix`. */
export const felixBenchmarks: Readonly<Record<string, Benchmark>> = {
  'felix-routes-10k': (runs = 9) => measureRoutes(10_000, runs),
  'felix-routes-100k': (runs = 5) => measureRoutes(100_000, runs),
};
