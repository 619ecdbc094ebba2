import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { createLog } from '../../../src/base/log.ts';
import { formatKubeconfig, holdsKubeconfig, removeKubeconfig, writeKubeconfig } from '../../../src/cni/kubeconfig.ts';
import { KubeconfigKeeper, renewalMs } from '../../../src/cni/kubeconfig-keeper.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { until } from '../../support/wait.ts';

const access = { server: 'https://[fd00::1]:443', ca: 'PEM\n', token: 'aGVhZA.Ym9keQ.c2ln' };
const hour = 3_600_000;
let confDir: string;
beforeEach(() => {
  confDir = mkdtempSync(join(tmpdir(), 'margay-kubeconfig-'));
});
afterEach(() => rmSync(confDir, { recursive: true, force: true }));

const file = () => join(confDir, 'calico-kubeconfig');

describe('the file', () => {
  test('is a kubeconfig, for root alone, and takes the place of another', async () => {
    writeFileSync(file(), 'token: stale', { mode: 0o644 });
    await writeKubeconfig(confDir, access);
    expect(parse(readFileSync(file(), 'utf8'))).toEqual({
      ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'margay' },
      clusters: [{ name: 'local', cluster: { server: access.server, 'certificate-authority-data': btoa(access.ca) } }],
      users: [{ name: 'margay', user: { token: access.token } }],
      contexts: [{ name: 'margay', context: { cluster: 'local', user: 'margay' } }],
    });
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(readdirSync(confDir)).toEqual(['calico-kubeconfig']);
  });

  test('has no room for a token that would be more than a scalar', () => {
    for (const token of ['', 'a b', 'a\nusers: []', 'a#b'])
      expect(() => formatKubeconfig({ ...access, token })).toThrow('token');
  });

  test("is removed where it is ours; Calico's stays", async () => {
    await removeKubeconfig(confDir);
    await writeKubeconfig(confDir, access);
    expect(await holdsKubeconfig(confDir)).toBe(true);
    await removeKubeconfig(confDir);
    expect(readdirSync(confDir)).toEqual([]);
    writeFileSync(file(), '# Kubeconfig file of another agent.\n');
    await removeKubeconfig(confDir);
    expect(readdirSync(confDir)).toEqual(['calico-kubeconfig']);
  });
});

test('a token is renewed at a quarter of its life, a little before at most, and never at once', () => {
  const now = new Date(0);
  expect(renewalMs(new Date(24 * hour), now, 0)).toBe(6 * hour);
  expect(renewalMs(new Date(24 * hour), now, 0.999)).toBeGreaterThan(5.4 * hour);
  expect(renewalMs(new Date(-hour), now, 0)).toBe(10_000);
});

describe('the keeper', () => {
  const clock = () => new ManualClock();
  const armed = (at: ManualClock) => until(() => at.armed === 1, { within: 2000, what: 'the keeper waits' });
  /** Lets minutes pass, one look or try each. */
  async function pass(at: ManualClock, minutes: number): Promise<void> {
    for (let minute = 0; minute < minutes; minute++) {
      await armed(at);
      at.advance(60_000);
    }
    await armed(at);
  }

  function started(at: ManualClock, issue: (count: number) => Promise<string>) {
    const stop = new AbortController();
    let count = 0;
    const keeper = new KubeconfigKeeper({
      ...{ confDir, clock: at, log: createLog('test', 'silent'), random: () => 0 },
      issue: async () => ({
        ...{ ...access, token: await issue(++count) },
        expires: new Date(at.wall().getTime() + 2 * hour),
      }),
    });
    const done = keeper.run(stop.signal);
    const token = () => /token: (.*)/.exec(readFileSync(file(), 'utf8'))?.[1];
    const end = () => {
      stop.abort();
      return done;
    };
    return { stop: end, token, issued: () => count };
  }

  test('renews the token at a quarter of its life, and ends when told', async () => {
    const at = clock();
    const kept = started(at, async (count) => `token-${count}`);
    await pass(at, 29);
    expect(kept.token()).toBe('token-1');
    await pass(at, 1);
    expect(kept.token()).toBe('token-2');
    await pass(at, 30);
    expect(kept.token()).toBe('token-3');
    await kept.stop();
  });

  test('writes the file again where it was removed or replaced', async () => {
    const at = clock();
    const kept = started(at, async (count) => `token-${count}`);
    await armed(at);
    rmSync(file());
    await pass(at, 1);
    expect(kept.token()).toBe('token-2');
    writeFileSync(file(), 'another');
    await pass(at, 1);
    expect(kept.token()).toBe('token-3');
    await kept.stop();
  });

  test('tries again while there is no token; the file stays as it is', async () => {
    const at = clock();
    const kept = started(at, async (count) => {
      if (count > 1 && count < 5) throw new Error('away');
      return `token-${count}`;
    });
    await pass(at, 30);
    expect([kept.issued(), kept.token()]).toEqual([2, 'token-1']);
    await pass(at, 2);
    expect([kept.issued(), kept.token()]).toEqual([4, 'token-1']);
    await pass(at, 1);
    expect([kept.issued(), kept.token()]).toEqual([5, 'token-5']);
    await kept.stop();
  });
});
