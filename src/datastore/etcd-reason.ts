import { explain } from '../base/errors.ts';

/** What the gRPC client says when no connection stands, in its words, and ours. First match. */
const patterns: readonly (readonly [RegExp, (found: string) => string])[] = [
  [/No connection established\. Last error: (?:Error: )?(.*?)\. Resolution note:/s, (last) => last],
  [/UNAVAILABLE: (?:Connection dropped|read ECONNRESET)/, () => 'the connection broke'],
  [/waiting for name resolution|Name resolution failed/, () => 'its name is not resolved'],
];

/**
 * Why no connection to an etcd stands, such as `connect ECONNREFUSED 127.0.0.1:2379`; undefined when a call failed otherwise.
 * @param cause what the library says of the failed call
 */
export function connectionFailure(cause: unknown): string | undefined {
  const text = explain(cause);
  for (const [pattern, reason] of patterns) {
    const found = pattern.exec(text);
    if (found) return reason(found[1] ?? '') || 'no connection';
  }
  return undefined;
}
