import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FakeKernel } from '../../../src/kernel/fake.ts';
import { CniModel, type Machine } from '../../support/cni-model.ts';
import { fakePods } from '../../unit/cni/fakes.ts';

/*
 * Random sequences of verbs on a pretended machine. `npm run test:cni-model` does many more steps from a new seed;
 * MARGAY_CNI_SEED repeats one.
 */

const steps = Number(process.env['MARGAY_CNI_STEPS'] ?? 1200);
const seed = Number(process.env['MARGAY_CNI_SEED'] ?? (process.env['MARGAY_CNI_STEPS'] ? randomInt(2 ** 31) : 7));

function pretended(): Machine {
  const kernel = new FakeKernel();
  let count = 0;
  return {
    netlink: kernel.host,
    openPod: fakePods(kernel),
    add: () => {
      const path = `/run/netns/${count++}`;
      kernel.addNamespace(path);
      return path;
    },
    remove: (netns) => {
      for (const { name } of kernel.open(netns).links()) if (name !== 'lo') kernel.open(netns).deleteLink(name);
      kernel.namespaces.delete(netns);
    },
  };
}

test(`${steps} verbs from seed ${seed} leave what a runtime may expect after each, and nothing at the end`, async () => {
  expect(Number.isInteger(steps) && Number.isInteger(seed), 'MARGAY_CNI_STEPS and MARGAY_CNI_SEED').toBe(true);
  const folder = mkdtempSync(join(tmpdir(), 'margay-cni-model-'));
  try {
    await new CniModel(pretended(), join(folder, 'queue'), seed).run(steps);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 600_000);
