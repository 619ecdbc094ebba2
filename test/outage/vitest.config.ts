import { defineConfig } from 'vitest/config';

/** The datastore away for as long as MARGAY_OUTAGE_SECONDS says: its own run, as that is ten minutes. */
export default defineConfig({
  test: {
    include: ['test/outage/**/*.test.ts'],
    globalSetup: ['test/support/setup.ts'],
    pool: 'forks',
    testTimeout: 3_600_000,
    hookTimeout: 300_000,
  },
});
