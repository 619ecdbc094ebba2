import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { build } from 'esbuild';
import pino from 'pino';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Answer } from '../../../src/cni/handler.ts';
import { RemovalQueue } from '../../../src/cni/removals.ts';
import type { RawRequest } from '../../../src/cni/request.ts';
import { type CniServer, startCniServer } from '../../../src/cni/server.ts';
import { conf } from '../../unit/cni/fakes.ts';

/* The launcher as a runtime starts it, against the real server. */

const log = pino({ level: 'silent' });
const root = path.resolve(import.meta.dirname, '../../..');
const launcher = path.join(root, 'dist/margay-cni');
let folder = '';
let stop = new AbortController();
let server: CniServer | undefined;

beforeAll(() => {
  execFileSync(path.join(root, 'scripts/build-launcher.sh'));
  folder = mkdtempSync(path.join(tmpdir(), 'margay-launcher-'));
});
afterEach(async () => {
  stop.abort();
  await server?.closed;
  server = undefined;
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Serves on a socket of its own; the path. */
async function serve(handle: (request: RawRequest, signal: AbortSignal) => Promise<Answer>): Promise<string> {
  const socketPath = path.join(folder, `${randomBytes(4).toString('hex')}.sock`);
  stop = new AbortController();
  server = await startCniServer({ socketPath, handler: { handle }, log, signal: stop.signal });
  return socketPath;
}

interface Run {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string | Buffer;
  readonly executable?: string;
}

function launch({
  env = {},
  stdin = JSON.stringify(conf),
  executable = launcher,
}: Run): Promise<{ code: number | null; stdout: Buffer }> {
  return new Promise((resolve, reject) => {
    const child = spawn(executable, [], { env, stdio: ['pipe', 'pipe', 'inherit'] });
    const out: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout: Buffer.concat(out) }));
    child.stdin.once('error', () => child.stdin.destroy());
    child.stdin.end(stdin);
  });
}

const json = (bytes: Buffer) => JSON.parse(bytes.toString()) as Record<string, unknown>;

test('the launcher hands over environment and input and prints the answer', async () => {
  const seen: RawRequest[] = [];
  const socket = await serve(async (request) => {
    seen.push(request);
    return { exitCode: 7, stdout: 'é\0\n' };
  });
  const stdin = '{"cniVersion":"1.0.0","name":"a\\"b\\\\ \u0001\u007fé😀"}\n';
  const { code, stdout } = await launch({
    env: { MARGAY_CNI_SOCKET: socket, CNI_COMMAND: 'ADD', CNI_ARGS: 'a="\\;b=\n', HOME: '/x' },
    stdin,
  });
  expect({ code, stdout: stdout.toString() }).toEqual({ code: 7, stdout: 'é\0\n' });
  expect(seen).toEqual([{ env: { CNI_COMMAND: 'ADD', CNI_ARGS: 'a="\\;b=\n' }, stdin, signs: true }]);
});

test('octets that are no UTF-8, and NUL, arrive as replacement characters and NUL', async () => {
  const seen: string[] = [];
  const socket = await serve(async ({ stdin }) => {
    seen.push(stdin);
    return { exitCode: 0, stdout: '' };
  });
  const bad = Buffer.from([0x7b, 0x00, 0xff, 0xc0, 0xaf, 0xed, 0xa0, 0x80, 0xe2, 0x82, 0x7d]);
  await launch({ env: { MARGAY_CNI_SOCKET: socket, CNI_COMMAND: 'DEL' }, stdin: bad });
  expect(seen[0]?.replaceAll('\ufffd', '?')).toBe('{\0????????}');
});

test('the socket is found beside an installed plugin', async () => {
  const socket = await serve(async () => ({ exitCode: 0, stdout: 'found' }));
  const installed = path.join(folder, 'margay');
  copyFileSync(launcher, installed);
  writeFileSync(`${installed}.socket`, `${socket}\n`);
  expect((await launch({ executable: installed, env: { CNI_COMMAND: 'ADD' } })).stdout.toString()).toBe('found');
});

test.each(['0.4.0', '1.1.0'])('agent down: code 11 and the version %s of the request', async (cniVersion) => {
  const env = { MARGAY_CNI_SOCKET: path.join(folder, 'no"ne.sock'), CNI_COMMAND: 'ADD' };
  const stdin = JSON.stringify({ plugins: [{ cniVersion: '9.9' }], cniVersion, name: 'x' });
  const { code, stdout } = await launch({ env, stdin });
  expect(code).toBe(1);
  expect(json(stdout)).toMatchObject({
    cniVersion,
    code: 11,
    msg: expect.stringContaining('is margay felix running?'),
    details: expect.stringContaining('no"ne.sock'),
  });
});

test('agent down: STATUS says unavailable', async () => {
  const env = { MARGAY_CNI_SOCKET: path.join(folder, 'none.sock'), CNI_COMMAND: 'STATUS' };
  expect(json((await launch({ env })).stdout)).toMatchObject({ code: 50 });
});

test('agent down: DEL is done for the runtime, and waits in a file for the agent', async () => {
  const queue = path.join(folder, 'lib/queue');
  const env = { MARGAY_CNI_SOCKET: path.join(folder, 'none.sock'), MARGAY_CNI_QUEUE: queue };
  const container = 'c1';
  const stdin = `${JSON.stringify(conf)}\n`;
  for (let i = 0; i < 2; i++) {
    const run = await launch({ env: { ...env, CNI_COMMAND: 'DEL', CNI_CONTAINERID: container }, stdin });
    expect({ code: run.code, stdout: run.stdout.toString() }).toEqual({ code: 0, stdout: '' });
  }
  expect(statSync(queue).mode & 0o777).toBe(0o700);
  const files = readdirSync(queue);
  expect(files).toEqual([expect.stringMatching(/^del-\d{19}-\d+\.json$/), expect.stringMatching(/^del-/)]);
  const [first = ''] = files;
  expect(statSync(path.join(queue, first)).mode & 0o777).toBe(0o600);
  const request = { env: { CNI_COMMAND: 'DEL', CNI_CONTAINERID: container }, stdin };
  expect(JSON.parse(readFileSync(path.join(queue, first), 'utf8'))).toEqual({ ...request, signs: true });
  const waiting = await new RemovalQueue(queue, log).list();
  expect(waiting).toMatchObject([
    { file: first, containerId: container, request },
    { containerId: container, request },
  ]);
});

test.each([
  ['dies', (socket: Socket) => socket.destroy()],
  ['answers in another language', (socket: Socket) => socket.end('HTTP/1.1 400 \r\n')],
])('an agent that %s while it has a DEL: the DEL is queued', async (_what, answer) => {
  const socketPath = path.join(folder, `${randomBytes(4).toString('hex')}.sock`);
  const queue = `${socketPath}.queue`;
  const agent = createServer((socket) => {
    // The launcher hangs up on what it does not understand.
    socket.on('error', () => socket.destroy());
    socket.once('data', () => answer(socket));
  }).listen(socketPath);
  await once(agent, 'listening');
  try {
    const env = { MARGAY_CNI_SOCKET: socketPath, MARGAY_CNI_QUEUE: queue, CNI_COMMAND: 'DEL' };
    expect((await launch({ env })).code).toBe(0);
    expect(readdirSync(queue)).toHaveLength(1);
  } finally {
    agent.close();
  }
});

test('a DEL that cannot be queued asks to be repeated: no folder, a full one, a request too long', async () => {
  const env = { MARGAY_CNI_SOCKET: path.join(folder, 'none.sock'), CNI_COMMAND: 'DEL' };
  const answer = async (queue: string, stdin?: string) =>
    json((await launch({ env: { ...env, MARGAY_CNI_QUEUE: queue }, ...(stdin && { stdin }) })).stdout);
  const refused = (details: string) => ({ code: 11, details: expect.stringContaining(details) });
  expect(await answer('relative/queue')).toMatchObject(refused('its path is not absolute'));
  expect(await answer('/proc/none/queue')).toMatchObject(refused('/proc/none: No such file'));
  writeFileSync(path.join(folder, 'file'), '');
  expect(await answer(path.join(folder, 'file'))).toMatchObject(refused('Not a directory'));
  const queue = path.join(folder, 'full');
  expect(await answer(queue, JSON.stringify({ ...conf, long: 'x'.repeat(65_536) }))).toMatchObject(refused('64 KiB'));
  mkdirSync(queue);
  for (let i = 0; i < 4096; i++) writeFileSync(path.join(queue, `del-${i}-1.json`), '');
  expect(await answer(queue)).toMatchObject(refused('4096 requests'));
});

test("the queue's folder is found beside an installed plugin", async () => {
  const installed = path.join(folder, 'other');
  copyFileSync(launcher, installed);
  writeFileSync(`${installed}.socket`, `${folder}/none.sock\n${folder}/beside\n`);
  expect((await launch({ executable: installed, env: { CNI_COMMAND: 'DEL' } })).code).toBe(0);
  expect(readdirSync(path.join(folder, 'beside'))).toHaveLength(1);
});

test('agent dies before it answers: code 11', async () => {
  const socketPath = path.join(folder, 'dying.sock');
  const dying = createServer((socket) => socket.once('data', () => socket.destroy()));
  await new Promise<void>((resolve) => dying.listen(socketPath, resolve));
  try {
    const { code, stdout } = await launch({ env: { MARGAY_CNI_SOCKET: socketPath, CNI_COMMAND: 'ADD' } });
    expect({ code, ...json(stdout) }).toMatchObject({
      code: 11,
      details: expect.stringContaining('without an answer'),
    });
  } finally {
    await new Promise((resolve) => dying.close(resolve));
  }
});

/** The real server in a process of its own. */
async function serveApart(socketPath: string) {
  const program = path.join(folder, 'slow-agent.mjs');
  await build({
    ...{ entryPoints: [path.join(import.meta.dirname, 'slow-agent.ts')], outfile: program, bundle: true },
    ...{ platform: 'node', format: 'esm', external: ['koffi'] },
    banner: { js: "import { createRequire } from 'node:module';const require = createRequire(import.meta.url);" },
  });
  const child = spawn(process.execPath, [program, socketPath], { stdio: ['pipe', 'pipe', 'inherit'] });
  const said = child.stdout.setEncoding('utf8')[Symbol.asyncIterator]();
  const hears = async (word: string) => {
    for (let text = ''; !text.includes(word); ) {
      const { value, done } = await said.next();
      if (done) throw new Error('the server ended');
      text += value;
    }
  };
  await hears('ready');
  return { child, hears };
}

test('a hung agent: ADD ends with code 11 and DEL is queued within 10 s; a slow one that lives is waited for', async () => {
  const [hung, slow] = [path.join(folder, 'hung.sock'), path.join(folder, 'slow.sock')];
  const queue = path.join(folder, 'hung-queue');
  const agents = await Promise.all([serveApart(hung), serveApart(slow)]);
  const [stopped, living] = agents;
  try {
    const waited = launch({ env: { MARGAY_CNI_SOCKET: slow, CNI_COMMAND: 'ADD' } });
    await living.hears('ADD');
    stopped.child.kill('SIGSTOP');
    const env = { MARGAY_CNI_SOCKET: hung, MARGAY_CNI_QUEUE: queue };
    const [add, del] = await Promise.all([
      launch({ env: { ...env, CNI_COMMAND: 'ADD' } }),
      launch({ env: { ...env, CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'c1' } }),
    ]);
    expect(json(add.stdout)).toMatchObject({
      code: 11,
      details: expect.stringContaining('no sign of life within 8 s'),
    });
    expect([del.code, del.stdout.toString()]).toEqual([0, '']);
    expect(await new RemovalQueue(queue, log).list()).toMatchObject([{ containerId: 'c1' }]);
    // It was asked before the others, and has been silent but for its signs of life.
    living.child.stdin.write('go');
    expect(await waited).toMatchObject({ code: 0, stdout: Buffer.from('done') });
  } finally {
    for (const { child } of agents) child.kill('SIGKILL');
  }
}, 60_000);

test('VERSION needs no agent', async () => {
  const { code, stdout } = await launch({ env: { CNI_COMMAND: 'VERSION' }, stdin: '{ "cniVersion" : "0.4.0" }' });
  expect(code).toBe(0);
  expect(json(stdout)).toEqual({ cniVersion: '0.4.0', supportedVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'] });
});

test('a configuration of more than 1 MiB is refused before it is sent', async () => {
  const { code, stdout } = await launch({
    env: { CNI_COMMAND: 'ADD', MARGAY_CNI_SOCKET: '/none' },
    stdin: Buffer.alloc((1 << 20) + 1, 0x20),
  });
  expect(code).toBe(1);
  expect(json(stdout)).toMatchObject({ code: 6, msg: expect.stringContaining('1 MiB') });
});

test('a socket path that no socket can have is named', async () => {
  const { stdout } = await launch({ env: { CNI_COMMAND: 'ADD', MARGAY_CNI_SOCKET: `/${'x'.repeat(120)}` } });
  expect(json(stdout)).toMatchObject({ code: 7, msg: expect.stringContaining('107 octets') });
});

test('a runtime that kills the launcher aborts the verb', async () => {
  const events = new EventEmitter();
  const socket = await serve((_request, signal) => {
    events.emit('running');
    return new Promise((answer) => {
      signal.addEventListener('abort', () => {
        events.emit('aborted');
        answer({ exitCode: 1, stdout: '' });
      });
    });
  });
  const [running, aborted] = [once(events, 'running'), once(events, 'aborted')];
  const child = spawn(launcher, [], { env: { MARGAY_CNI_SOCKET: socket, CNI_COMMAND: 'ADD' } });
  child.stdin.end('{}');
  await running;
  child.kill('SIGKILL');
  await aborted;
});

test('a stopping server answers the verbs at work and removes its socket', async () => {
  const socket = await serve(
    (_request, signal) =>
      new Promise((answer) => {
        signal.addEventListener('abort', () => answer({ exitCode: 1, stdout: 'stopping' }));
        stop.abort();
      }),
  );
  expect((await launch({ env: { MARGAY_CNI_SOCKET: socket, CNI_COMMAND: 'ADD' } })).stdout.toString()).toBe('stopping');
  await server?.closed;
  expect(json((await launch({ env: { MARGAY_CNI_SOCKET: socket, CNI_COMMAND: 'ADD' } })).stdout)).toMatchObject({
    code: 11,
  });
});

test('a second server on the same path is refused', async () => {
  const socketPath = await serve(async () => ({ exitCode: 0, stdout: '' }));
  const again = startCniServer({ socketPath, handler: { handle: () => expect.fail() }, log, signal: stop.signal });
  await expect(again).rejects.toThrow('is served by another agent');
});

test('the socket that a killed agent left is taken over', async () => {
  const socketPath = path.join(folder, 'left.sock');
  const agent = `require('node:net').createServer().listen(${JSON.stringify(socketPath)}, () => process.kill(process.pid, 'SIGKILL'))`;
  expect(spawnSync(process.execPath, ['-e', agent]).signal).toBe('SIGKILL');
  stop = new AbortController();
  const handle = async () => ({ exitCode: 0, stdout: 'taken over' });
  server = await startCniServer({ socketPath, handler: { handle }, log, signal: stop.signal });
  const { stdout } = await launch({ env: { MARGAY_CNI_SOCKET: socketPath, CNI_COMMAND: 'ADD' } });
  expect(stdout.toString()).toBe('taken over');
});

test('a file that is no socket is not removed', async () => {
  const file = path.join(folder, 'file.sock');
  writeFileSync(file, 'precious');
  const start = startCniServer({
    socketPath: file,
    handler: { handle: () => expect.fail() },
    log,
    signal: stop.signal,
  });
  await expect(start).rejects.toThrow('is not a socket');
});
