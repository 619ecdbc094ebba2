import { defineConfig } from 'vitest/config';

/**
 * Layers by what they need: nothing; a real etcd; real BGP daemons; network namespaces; a whole lab. Those that leave
 * nothing in the process share it, file after file: loading the sources anew for each takes most of their time. Those
 * that mostly wait, for the kernel's and the daemons' timers, are more than two processors could compute.
 */
const layers = {
  unit: { testTimeout: 30_000, workers: 2, isolate: false },
  property: { testTimeout: 120_000, workers: 2, isolate: false },
  contract: { testTimeout: 60_000, workers: 2, isolate: false },
  dataplane: { testTimeout: 60_000, workers: 3, isolate: true },
  interop: { testTimeout: 120_000, workers: 4, isolate: true },
  e2e: { testTimeout: 300_000, workers: 2, isolate: true },
} as const;

export default defineConfig({
  test: {
    projects: Object.entries(layers).map(([name, { testTimeout, workers, isolate }]) => ({
      test: {
        name,
        include: [`test/${name}/**/*.test.ts`],
        globalSetup: ['test/support/setup.ts'],
        pool: 'forks' as const,
        testTimeout,
        hookTimeout: testTimeout,
        maxWorkers: workers,
        isolate,
        allowOnly: false,
        sequence: { groupOrder: Object.keys(layers).indexOf(name) },
      },
    })),
  },
});
