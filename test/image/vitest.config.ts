import { defineConfig } from 'vitest/config';

/** The agents' image in the real container runtime: its own run, as it builds the image, and needs packages of its own. */
export default defineConfig({
  test: { include: ['test/image/**/*.test.ts'], pool: 'forks', testTimeout: 300_000, hookTimeout: 300_000 },
});
