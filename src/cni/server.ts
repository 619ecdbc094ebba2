import { chmod, lstat, mkdir, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { EnvironmentError, errorCode, explain, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { fallbackVersion } from './config.ts';
import { CniError, cniCodes, formatError } from './error.ts';
import { parseBody, requestLength, signIntervalMs, signOfLife, writeAnswer } from './framing.ts';
import type { Answer } from './handler.ts';
import { Slots } from './queue.ts';
import type { RawRequest } from './request.ts';

/** Connections beyond this are closed at once; the launcher then tells the runtime to try again. */
const maxConnections = 256;
/** Verbs at work at a time; the others wait. */
const maxRunning = 32;
/** A launcher sends its request within this, or is cut off. */
const requestTimeoutMs = 10_000;

export interface CniServerOptions {
  readonly socketPath: string;
  readonly handler: { handle(request: RawRequest, signal: AbortSignal): Promise<Answer> };
  readonly log: Log;
  /** Ends the server: verbs at work are aborted and answered, then the socket goes. */
  readonly signal: AbortSignal;
}

export interface CniServer {
  /** Resolves once every verb was answered and the socket is gone. */
  readonly closed: Promise<void>;
}

/**
 * Serves the launcher on a unix socket that only root may use.
 * @throws EnvironmentError when another agent serves the path or the socket cannot be made
 */
export async function startCniServer({ socketPath, handler, log, signal }: CniServerOptions): Promise<CniServer> {
  await clearPath(socketPath);
  const slots = new Slots(maxRunning);
  const running = new Set<Promise<void>>();
  const server = createServer((socket) => {
    const work = serve(socket, (request, gone) => slots.run(() => handler.handle(request, gone)), log, signal);
    running.add(work);
    void work.finally(() => running.delete(work));
  });
  server.maxConnections = maxConnections;
  await listen(server, socketPath);
  server.on('error', (error) => log.error({ err: error }, 'CNI server'));
  const closed = new Promise<void>((resolve) => server.once('close', resolve)).then(async () => {
    await Promise.all(running);
  });
  const stop = () => server.close();
  if (signal.aborted) stop();
  else signal.addEventListener('abort', stop, { once: true });
  log.info({ socket: socketPath }, 'serving CNI requests');
  return { closed };
}

type Run = (request: RawRequest, signal: AbortSignal) => Promise<Answer>;

/** One exchange. The verb is aborted when the launcher goes away before it is answered. */
async function serve(socket: Socket, run: Run, log: Log, stopping: AbortSignal): Promise<void> {
  const gone = new AbortController();
  socket.on('error', (error) => log.debug({ err: error }, 'CNI connection'));
  socket.once('close', () => gone.abort());
  socket.setTimeout(requestTimeoutMs, () => socket.destroy());
  const hangUp = () => socket.destroy();
  stopping.addEventListener('abort', hangUp, { once: true });
  let answer: Answer;
  let signs: NodeJS.Timeout | undefined;
  try {
    const body = await readRequest(socket);
    if (body === undefined) return;
    socket.setTimeout(0);
    stopping.removeEventListener('abort', hangUp);
    const request = parseBody(body);
    if (request.signs) signs = setInterval(() => socket.write(signOfLife), signIntervalMs);
    answer = await run(request, AbortSignal.any([gone.signal, stopping]));
  } catch (thrown) {
    if (!(thrown instanceof InputError)) log.error({ err: thrown }, 'CNI request');
    const error = new CniError(thrown instanceof InputError ? cniCodes.decode : cniCodes.io, explain(thrown));
    answer = { exitCode: 1, stdout: formatError(error, fallbackVersion) };
  } finally {
    clearInterval(signs);
    stopping.removeEventListener('abort', hangUp);
  }
  await new Promise<void>((resolve) => {
    if (socket.destroyed) return resolve();
    socket.once('close', () => resolve());
    socket.end(writeAnswer(answer), () => socket.destroySoon());
  });
}

/** The body of the one request of a connection; undefined when it ended before that. @throws InputError */
function readRequest(socket: Socket): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let received = 0;
    let wanted: number | undefined;
    socket.once('close', () => resolve(undefined));
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      received += chunk.length;
      try {
        wanted ??= requestLength(received < 4 ? new Uint8Array() : Buffer.concat(chunks));
        if (wanted === undefined || received < wanted + 4) return;
        if (received > wanted + 4) throw new InputError('request', `${received - 4} octets`, `${wanted} octets`);
        resolve(Buffer.concat(chunks).subarray(4));
      } catch (thrown) {
        socket.pause();
        reject(thrown);
      }
    });
  });
}

/** Makes the folder; removes the socket that an agent now dead left behind. */
async function clearPath(socketPath: string): Promise<void> {
  await mkdir(dirname(socketPath), { recursive: true, mode: 0o755 });
  const found = await lstat(socketPath).catch((thrown: unknown) => {
    if (errorCode(thrown) === 'ENOENT') return undefined;
    throw thrown;
  });
  if (found === undefined) return;
  if (!found.isSocket())
    throw new EnvironmentError(`${socketPath} is not a socket`, 'remove it, or set another MARGAY_RUN_DIR');
  if (await isServed(socketPath)) {
    throw new EnvironmentError(`${socketPath} is served by another agent`, 'stop it, or set another MARGAY_RUN_DIR');
  }
  await unlink(socketPath);
}

function isServed(socketPath: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(socketPath, () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error) => {
      if (errorCode(error) === 'ECONNREFUSED') resolve(false);
      else reject(new EnvironmentError(`${socketPath}: ${error.message}`, 'check MARGAY_RUN_DIR', { cause: error }));
    });
  });
}

async function listen(server: Server, socketPath: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const fail = (error: Error) =>
      reject(
        new EnvironmentError(`${socketPath}: ${error.message}`, 'check MARGAY_RUN_DIR and that you are root', {
          cause: error,
        }),
      );
    server.once('error', fail);
    server.listen(socketPath, () => {
      server.off('error', fail);
      resolve();
    });
  });
  await chmod(socketPath, 0o600);
}
