import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, test } from 'vitest';
import { openPodNamespace } from '../../../src/cni/pod.ts';
import { openNetlinkIn } from '../../../src/kernel/namespace.ts';
import { CniModel } from '../../support/cni-model.ts';
import { Namespaces } from './namespaces.ts';

/* The random sequences of test/property/cni/model.test.ts on the real kernel. */

const spaces = new Namespaces();
const folder = mkdtempSync(join(tmpdir(), 'margay-cni-model-'));

afterEach(() => {
  spaces.clear();
  rmSync(folder, { recursive: true, force: true });
});

test('a hundred random verbs on the real kernel', async () => {
  const node = spaces.add();
  execFileSync('nsenter', [`--net=${node}`, 'ip', 'link', 'set', 'lo', 'up']);
  const netlink = openNetlinkIn(node);
  try {
    const machine = {
      netlink,
      openPod: openPodNamespace,
      add: () => spaces.add(),
      remove: (netns: string) => spaces.remove(netns),
    };
    await new CniModel(machine, join(folder, 'queue'), 11).run(100);
  } finally {
    netlink.close();
  }
});
