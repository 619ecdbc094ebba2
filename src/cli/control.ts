import { get } from 'node:http';
import { join } from 'node:path';
import { errorCode } from '../base/errors.ts';
import { ExitError, exitCode } from './exit.ts';

const deadlineMs = 5000;
/** Most octets of an answer: a full table of 100,000 routes fits. */
const largestAnswer = 256 << 20;

export type Agent = 'felix' | 'bgp';

/**
 * Asks one of this node's agents over its control socket.
 * @throws ExitError (unreachable) that says where the socket was sought and what to do
 */
export function ask(runDir: string, agent: Agent, path: string): Promise<unknown> {
  const socketPath = join(runDir, `${agent}.sock`);
  return new Promise((resolve, reject) => {
    const refuse = (reason: string, cause?: unknown) =>
      reject(
        new ExitError(
          exitCode.unreachable,
          `margay ${agent} does not answer on ${socketPath} (${reason}); run this on a node, as root, with margay ${agent} running, or set MARGAY_RUN_DIR`,
          { cause },
        ),
      );
    const request = get({ socketPath, path, timeout: deadlineMs }, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        chunks.push(chunk);
        if (size > largestAnswer) request.destroy(new Error(`an answer of more than ${largestAnswer} octets`));
      });
      response.once('error', (cause) => refuse(cause.message, cause));
      response.once('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        if (response.statusCode !== 200) return refuse(`HTTP ${response.statusCode}: ${text.trim()}`);
        try {
          resolve(JSON.parse(text));
        } catch (cause) {
          refuse('an answer that is not JSON', cause);
        }
      });
    });
    request.once('timeout', () => request.destroy(new Error(`no answer within ${deadlineMs / 1000} s`)));
    request.once('error', (cause) => refuse(errorCode(cause) ?? cause.message, cause));
  });
}
