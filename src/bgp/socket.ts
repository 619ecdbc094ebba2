import { chmodSync, lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { EnvironmentError, errorCode, explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';

const unusable = 'set MARGAY_RUN_DIR to a folder that can be written, and has room';

/**
 * Binds a server to a unix socket with mode 0600. A socket file that nobody listens on, left by a killed process, is
 * replaced.
 * @throws EnvironmentError when another process listens there, or the folder cannot be used
 */
export async function listenUnix(server: Server, path: string, log: Log): Promise<void> {
  try {
    if (!(await answers(path))) return await bind(server, path, log);
  } catch (cause) {
    throw new EnvironmentError(`cannot listen on ${path}`, unusable, { cause });
  }
  throw new EnvironmentError(`${path} is served by another process`, 'stop the other margay bgp of this node first');
}

/** Makes the folder of the sockets. @throws EnvironmentError */
export function makeRunDir(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o755 });
  } catch (cause) {
    throw new EnvironmentError(`cannot make the folder ${path}`, unusable, { cause });
  }
}

async function bind(server: Server, path: string, log: Log): Promise<void> {
  removeSocket(path);
  const before = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, () => {
        server.off('error', reject);
        server.on('error', (cause) => log.error({ path, reason: explain(cause) }, 'a connection could not be taken'));
        resolve();
      });
    });
  } finally {
    process.umask(before);
  }
  chmodSync(path, 0o600);
}

function removeSocket(path: string): void {
  try {
    if (lstatSync(path).isSocket()) unlinkSync(path);
  } catch (thrown) {
    if (errorCode(thrown) !== 'ENOENT') throw thrown;
  }
}

/** Whether somebody accepts connections on the socket. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (cause) => {
      const code = errorCode(cause);
      if (code === 'ENOENT' || code === 'ECONNREFUSED') resolve(false);
      else reject(cause);
    });
  });
}
