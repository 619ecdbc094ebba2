import { type IncomingMessage, request } from 'node:http';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { errorCode } from '../base/errors.ts';
import { ExitError, exitCode } from './exit.ts';

/** Loaded only by who reads lines. */
const readline = () => import('node:readline');

const deadlineMs = 5000;
/** Most octets of an answer: a full table of 100,000 routes fits; longer lists are streamed. */
const largestAnswer = 256 << 20;

export type Agent = 'felix' | 'bgp';

interface Call {
  readonly runDir: string;
  readonly agent: Agent;
  readonly path: string;
  readonly method?: 'POST';
  readonly body?: string;
  readonly accept?: string;
  /** An answer without end, in which nothing may come for long. */
  readonly endless?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Asks one of this node's agents over its control socket.
 * @throws ExitError (unreachable) that says where the socket was sought and what to do
 */
export async function ask(runDir: string, agent: Agent, path: string): Promise<unknown> {
  return jsonOf({ runDir, agent, path });
}

/** Tells an agent to do something. @throws ExitError as `ask` does, or with what the agent found wrong */
export async function tell(runDir: string, agent: Agent, path: string, body: object): Promise<unknown> {
  return jsonOf({ runDir, agent, path, method: 'POST', body: JSON.stringify(body) });
}

/**
 * Reads a list of any length, an item at a time.
 * @returns whether the agent had more than the path's `limit`
 * @throws ExitError as `ask` does, and when the list breaks off
 */
export async function list(
  runDir: string,
  agent: Agent,
  path: string,
  take: (item: unknown) => void,
): Promise<{ readonly truncated: boolean }> {
  const call = { runDir, agent, path, accept: 'application/x-ndjson' };
  const { createInterface } = await readline();
  const response = await answerTo(call);
  for await (const line of createInterface({ input: response })) {
    const item: unknown = parse(line, call);
    if (typeof item === 'object' && item !== null && 'end' in item) {
      response.resume();
      return { truncated: 'truncated' in item && item.truncated === true };
    }
    take(item);
  }
  throw unreachable(call, 'the list broke off');
}

/**
 * Reads what an agent tells as it happens, a line of JSON at a time, until the signal aborts.
 * @throws ExitError as `ask` does, and when the agent ends
 */
export async function follow(
  runDir: string,
  agent: Agent,
  path: string,
  take: (item: unknown) => void,
  signal: AbortSignal,
): Promise<void> {
  const call: Call = { runDir, agent, path, accept: 'application/x-ndjson', endless: true, signal };
  const { createInterface } = await readline();
  try {
    const response = await answerTo(call);
    for await (const line of createInterface({ input: response })) take(parse(line, call));
  } catch (cause) {
    if (signal.aborted) return;
    throw cause instanceof ExitError ? cause : unreachable(call, errorCode(cause) ?? 'the agent ended', cause);
  }
  if (!signal.aborted) throw unreachable(call, 'the agent ended');
}

/**
 * Hands over an answer of any length as it comes, to what `open` gives once there is one. @throws ExitError as `ask` does, and when the answer
 * breaks off
 */
export async function download(runDir: string, agent: Agent, path: string, open: () => Writable): Promise<void> {
  const call = { runDir, agent, path, accept: 'application/octet-stream' };
  const { pipeline } = await import('node:stream/promises');
  const response = await answerTo(call);
  try {
    await pipeline(response, open());
  } catch (cause) {
    if (response.complete) throw cause;
    throw unreachable(call, 'the answer broke off', cause);
  }
}

async function jsonOf(call: Call): Promise<unknown> {
  return parse(await textOf(await answerTo(call), call), call);
}

function parse(text: string, call: Call): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw unreachable(call, 'an answer that is not JSON', cause);
  }
}

async function textOf(response: IncomingMessage, call: Call): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      chunks.push(chunk);
      if (size > largestAnswer) throw new Error(`an answer of more than ${largestAnswer} octets`);
    }
  } catch (cause) {
    throw unreachable(call, cause instanceof Error ? cause.message : String(cause), cause);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** The response when it is a good one; what the agent found wrong with the request is the error's text. */
async function answerTo(call: Call): Promise<IncomingMessage> {
  const response = await respond(call);
  const { statusCode = 0 } = response;
  if (statusCode === 200) return response;
  const text = await textOf(response, call);
  if (statusCode >= 400 && statusCode < 500)
    throw new ExitError(statusCode === 400 ? exitCode.usage : exitCode.failure, complaintIn(text) ?? text.trim());
  throw unreachable(call, `HTTP ${statusCode}: ${text.trim()}`);
}

function complaintIn(text: string): string | undefined {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === 'object' && body !== null && 'error' in body) return String(body.error);
    return undefined;
  } catch (cause) {
    if (cause instanceof SyntaxError) return undefined;
    throw cause;
  }
}

function respond(call: Call): Promise<IncomingMessage> {
  const { runDir, agent, path, method = 'GET', body = '', accept = 'application/json', endless, signal } = call;
  const socketPath = join(runDir, `${agent}.sock`);
  return new Promise((resolve, reject) => {
    // Without an http.Agent, which takes longer than all the rest and would keep the connection.
    const connect = () => createConnection({ path: socketPath, timeout: deadlineMs });
    const options = {
      ...{ createConnection: connect, path, method, headers: { accept }, timeout: deadlineMs },
      ...(signal && { signal }),
    };
    const sent = request(options, (response) => {
      if (endless) sent.setTimeout(0);
      resolve(response);
    });
    sent.once('timeout', () => sent.destroy(new Error(`no answer within ${deadlineMs / 1000} s`)));
    sent.on('error', (cause) => reject(unreachable(call, errorCode(cause) ?? cause.message, cause)));
    sent.end(body);
  });
}

function unreachable({ runDir, agent }: Call, reason: string, cause?: unknown): ExitError {
  const socketPath = join(runDir, `${agent}.sock`);
  return new ExitError(
    exitCode.unreachable,
    `margay ${agent} does not answer on ${socketPath} (${reason}); run this on a node, as root, with margay ${agent} running, or set MARGAY_RUN_DIR`,
    { cause },
  );
}
