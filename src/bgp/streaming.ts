import type { ServerResponse } from 'node:http';

/** Items turned into text between two looks at the event loop. */
const slice = 256;

/** How a list is told: `json` is one document, `ndjson` an item a line and then `{"end":true,…}`. */
export type ListFormat = 'json' | 'ndjson';

/**
 * Sends a list of any length: no more than a slice of it is ever text, a slow reader is waited for, and other work goes
 * on in between.
 * @param limit items at most; the answer says whether there were more
 */
export async function sendList(
  response: ServerResponse,
  { name, format, limit }: { readonly name: string; readonly format: ListFormat; readonly limit: number },
  items: Iterator<object>,
): Promise<void> {
  const json = format === 'json';
  response.writeHead(200, { 'content-type': json ? 'application/json' : 'application/x-ndjson' });
  if (json) response.write(`{"${name}":[`);
  let told = 0;
  let next = items.next();
  while (!next.done && told < limit && !response.destroyed) {
    const texts: string[] = [];
    for (; texts.length < slice && !next.done && told < limit; told++, next = items.next()) {
      texts.push(json && told > 0 ? `,\n${JSON.stringify(next.value)}` : JSON.stringify(next.value));
    }
    const taken = response.write(json ? texts.join('') : `${texts.join('\n')}\n`);
    await (taken ? turn() : drained(response));
  }
  const truncated = !next.done;
  items.return?.();
  response.end(json ? `],"truncated":${truncated}}\n` : `${JSON.stringify({ end: true, truncated })}\n`);
}

/** Sends octets of any length, in the same manner. */
export async function sendOctets(response: ServerResponse, chunks: Iterator<Uint8Array>): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/octet-stream' });
  let next = chunks.next();
  while (!next.done && !response.destroyed) {
    const batch: Uint8Array[] = [];
    for (; batch.length < slice && !next.done; next = chunks.next()) batch.push(next.value);
    const taken = response.write(Buffer.concat(batch));
    await (taken ? turn() : drained(response));
  }
  chunks.return?.();
  response.end();
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Resolves when the reader has caught up, or is gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.once('drain', done);
    response.once('close', done);
  });
}
