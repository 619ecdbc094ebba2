import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { defaultConflist, type InstallRequest, installCni, uninstallCni } from '../../../src/cni/install.ts';

let folder: string;
let request: InstallRequest;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'margay-install-'));
  const launcher = join(folder, 'launcher');
  writeFileSync(launcher, 'first');
  request = {
    ...{ launcher, binDir: join(folder, 'opt/bin'), confDir: join(folder, 'etc/net.d') },
    ...{ socketPath: '/run/margay/cni.sock', queueDir: '/var/lib/margay/cni-queue' },
  };
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const listed = () => [...readdirSync(request.binDir), ...readdirSync(request.confDir)].toSorted();
const files = ['10-margay.conflist', 'margay', 'margay.socket'];

test('the launcher, what it is told, and the network are put in place, whole', async () => {
  await installCni(request);
  expect(listed()).toEqual(files);
  expect(statSync(join(request.binDir, 'margay')).mode & 0o777).toBe(0o755);
  const told = readFileSync(join(request.binDir, 'margay.socket'), 'utf8');
  expect(told).toBe('/run/margay/cni.sock\n/var/lib/margay/cni-queue\n');
  const conflist = JSON.parse(readFileSync(join(request.confDir, '10-margay.conflist'), 'utf8'));
  expect(conflist).toEqual(defaultConflist());
});

test('again, a newer launcher and another network replace the files instead of writing into them', async () => {
  await installCni(request);
  const before = files.map((name) =>
    statSync(join(name.endsWith('conflist') ? request.confDir : request.binDir, name)),
  );
  writeFileSync(request.launcher, 'second');
  await installCni({ ...request, conflist: defaultConflist({ mtu: 1400 }) });
  const after = files.map((name) => statSync(join(name.endsWith('conflist') ? request.confDir : request.binDir, name)));
  expect(readFileSync(join(request.binDir, 'margay'), 'utf8')).toBe('second');
  expect(after.map(({ ino }, at) => ino === before[at]?.ino)).toEqual([false, false, true]);
  expect(listed()).toEqual(files);
});

test('what cannot be is refused by name, and leaves nothing', async () => {
  const refused = (more: Partial<InstallRequest>) => expect(installCni({ ...request, ...more })).rejects;
  await refused({ queueDir: 'lib/queue' }).toThrow('queueDir: "lib/queue": expected an absolute path');
  await refused({ queueDir: '/a\n/b' }).toThrow('queueDir');
  await refused({ socketPath: 'cni.sock' }).toThrow('socketPath: "cni.sock": expected an absolute path');
  await refused({ socketPath: `/${'x'.repeat(107)}` }).toThrow('at most 107 octets');
  await refused({ launcher: join(folder, 'none') }).toThrow('cannot be read');
  await refused({ binDir: request.launcher }).toThrow('cannot be written');
  expect(existsSync(request.confDir)).toBe(false);
  await refused({ confName: 'x.txt' }).toThrow('confName');
});

test('access to the API is a file for root alone, there before the network is, and gone with it', async () => {
  const access = { server: 'https://192.0.2.1:443', ca: 'PEM', token: 'a.b.c' };
  await expect(installCni({ ...request, access: { ...access, token: 'a b' } })).rejects.toThrow('token');
  expect(readdirSync(request.confDir)).toEqual([]);
  await installCni({ ...request, access });
  expect(listed()).toEqual(['10-margay.conflist', 'calico-kubeconfig', 'margay', 'margay.socket']);
  expect(statSync(join(request.confDir, 'calico-kubeconfig')).mode & 0o777).toBe(0o600);
  await uninstallCni(request);
  expect(listed()).toEqual([]);
});

test('uninstalled, everything is gone, and again is success', async () => {
  await installCni(request);
  writeFileSync(join(request.confDir, '20-other.conflist'), '{}');
  await uninstallCni(request);
  expect(listed()).toEqual(['20-other.conflist']);
  await uninstallCni(request);
});
