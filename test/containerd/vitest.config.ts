import { defineConfig } from 'vitest/config';

/** The real container runtime: its own run, since it needs packages that the other layers do without. */
export default defineConfig({
  test: { include: ['test/containerd/**/*.test.ts'], pool: 'forks', testTimeout: 120_000, hookTimeout: 120_000 },
});
