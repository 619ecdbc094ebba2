import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { duts, installedDuts } from '../../bench/bgp/duts.ts';
import { usageOf } from '../../bench/bgp/usage.ts';
import { readSpeakerFile } from '../../src/cli/bgp-file.ts';

const noFrr = (file: string) => !file.includes('frr');

test('a competitor that is not installed is left out, and told', () => {
  const told: string[] = [];
  expect(installedDuts(undefined, (line) => told.push(line), noFrr)).toEqual([
    'margay',
    'bird',
    'gobgp',
    'openbgpd',
    'wire',
  ]);
  expect(told).toEqual(['FRR is left out: /usr/lib/frr/bgpd is missing (apt-get install frr)']);
});

test('one that was asked for must be installed', () => {
  expect(() => installedDuts(['margay', 'frr'], () => undefined, noFrr)).toThrow(
    'FRR is not installed; apt-get install frr',
  );
  expect(installedDuts(['margay', 'bird'], () => undefined, noFrr)).toEqual(['margay', 'bird']);
});

const peers = ['10.99.1.1', '10.99.2.1', '10.99.2.2'];

test('each device under test is told of every peer, and that it is a client', () => {
  const directory = mkdtempSync(join(tmpdir(), 'margay-duts-'));
  try {
    for (const id of ['bird', 'frr', 'gobgp'] as const) {
      duts[id].command({ directory, peers, margay: ['margay'], tester: 'tester' });
    }
    for (const name of readdirSync(directory)) {
      const text = readFileSync(join(directory, name), 'utf8');
      for (const peer of peers) expect(text).toContain(peer);
      expect(text).toMatch(/rr client|route-reflector-client/);
    }
    expect(readdirSync(directory)).toHaveLength(3);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('our configuration is one that our speaker takes, with a reflector client for each peer', () => {
  const directory = mkdtempSync(join(tmpdir(), 'margay-duts-'));
  try {
    const command = duts.margay.command({ directory, peers, margay: ['margay'], tester: 'tester' });
    expect(command.slice(0, 3)).toEqual(['margay', 'bgp', '--config']);
    const { config } = readSpeakerFile(command.at(-1) ?? '');
    expect(config.peers.map(({ address }) => address)).toEqual(peers);
    for (const peer of config.peers)
      expect(peer).toMatchObject({ initiative: 'never', asn: 64512, routeReflectorClient: true });
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('what a process uses includes its children', async () => {
  const alone = usageOf(process.pid);
  expect(alone.cpuSeconds).toBeGreaterThan(0);
  const child = spawn('cat', { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    // Its answer shows that it runs.
    child.stdin.write('x');
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const [ofChild, parent] = [usageOf(child.pid ?? 0), usageOf(process.pid)];
    expect(ofChild.peakMb).toBeGreaterThan(0);
    expect(parent.peakMb).toBeGreaterThanOrEqual(alone.peakMb + ofChild.peakMb);
  } finally {
    child.kill('SIGKILL');
  }
});

test('a process that is gone has used nothing', () => {
  expect(usageOf(2 ** 30)).toEqual({ cpuSeconds: 0, waitSeconds: 0, peakMb: 0 });
});
