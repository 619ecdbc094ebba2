import { InputError, show } from '../../base/errors.ts';
import { GoneError, StoreUnavailableError } from '../store.ts';

/** `meta/v1 Status`, the API server's way to say no. */
export interface Status {
  readonly reason?: string;
  readonly message?: string;
  readonly code?: number;
  readonly details?: {
    readonly name?: string;
    readonly kind?: string;
    readonly retryAfterSeconds?: number;
    readonly causes?: readonly { readonly field?: string; readonly message?: string }[];
  };
}

/** An answer of the API server, body unread. */
export interface Answer {
  readonly status: number;
  readonly retryAfter?: number;
  readonly text: string;
}

/** The Status in an answer; empty for what is none, such as the text of a proxy. */
export function statusOf(answer: Answer): Status {
  try {
    const found: unknown = JSON.parse(answer.text);
    return typeof found === 'object' && found !== null && 'kind' in found && found.kind === 'Status'
      ? (found as Status)
      : {};
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return {};
    throw thrown;
  }
}

/** Whether a 404 is about one object, and not about a whole API that is not installed. */
export function isObjectMissing(answer: Answer): boolean {
  return answer.status === 404 && statusOf(answer).details?.name !== undefined;
}

/**
 * The error that an answer stands for: GoneError for 410, InputError for what the server's validation refuses, and
 * StoreUnavailableError for all that may be different at the next attempt.
 */
export function failureOf(what: string, answer: Answer): Error {
  const status = statusOf(answer);
  const message = status.message ?? show(answer.text);
  switch (answer.status) {
    case 410:
      return new GoneError(`${what}: ${message}`);
    case 400:
    case 422: {
      const cause = status.details?.causes?.[0];
      return new InputError(cause?.field || what, undefined, cause?.message ?? message);
    }
    case 404:
      return new StoreUnavailableError(`${what}: the Kubernetes API has no such resource; are the CRDs installed?`);
    default:
      return new StoreUnavailableError(`${what}: the Kubernetes API answers ${answer.status}: ${message}`);
  }
}
