import { defineConfig } from 'vitest/config';

/** A live cluster of Kubernetes' own programs: its own run, since these are built first, and take a while to start. */
export default defineConfig({
  test: {
    include: ['test/cluster/**/*.test.ts'],
    globalSetup: ['test/support/setup.ts'],
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 180_000,
    hookTimeout: 300_000,
  },
});
