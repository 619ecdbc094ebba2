import { createHmac, randomBytes } from 'node:crypto';
import { inspect } from 'node:util';

/** Of this process only, so that a redacted text says nothing about a guessed secret. */
const key = randomBytes(32);

/**
 * A password that no dump or log shows. Its JSON is `redacted:<tag>`; within one process equal secrets have equal tags,
 * so that configurations compare by their JSON without showing it.
 */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The secret itself, for the one place that uses it. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return `redacted:${createHmac('sha256', key).update(this.#text).digest('hex').slice(0, 12)}`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }
}
