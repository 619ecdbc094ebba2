import { defineConfig } from 'vitest/config';

/** Layers by what they need: nothing; a real etcd; real BGP daemons; network namespaces; a whole lab. */
const layers = {
  unit: { testTimeout: 30_000, workers: 2 },
  property: { testTimeout: 120_000, workers: 2 },
  contract: { testTimeout: 60_000, workers: 2 },
  dataplane: { testTimeout: 60_000, workers: 1 },
  interop: { testTimeout: 120_000, workers: 2 },
  e2e: { testTimeout: 300_000, workers: 1 },
} as const;

export default defineConfig({
  test: {
    projects: Object.entries(layers).map(([name, { testTimeout, workers }]) => ({
      test: {
        name,
        include: [`test/${name}/**/*.test.ts`],
        globalSetup: ['test/support/setup.ts'],
        pool: 'forks' as const,
        testTimeout,
        hookTimeout: testTimeout,
        maxWorkers: workers,
        allowOnly: false,
        sequence: { groupOrder: Object.keys(layers).indexOf(name) },
      },
    })),
  },
});
