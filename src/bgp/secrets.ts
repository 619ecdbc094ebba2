import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { explain } from '../base/errors.ts';
import { Secret } from '../base/secret.ts';
import { maxMd5Key } from '../kernel/socket.ts';

/** A key of a Kubernetes Secret, as `secretKeyRef` names it. */
export interface SecretRef {
  readonly name: string;
  readonly key: string;
}

/** Finds a secret, or says why it cannot be used. */
export type Secrets = (ref: SecretRef) => Secret | { readonly problem: string };

/** How often files that are in use are read again: a Secret's volume changes without telling. */
export const rereadMilliseconds = 10_000;

/** Secrets as files `<directory>/<name>/<key>`, which is how Kubernetes mounts them. A last line end does not count. */
export class SecretFiles {
  /** Some secret has been asked for since this was last set to false. */
  used = false;

  constructor(private readonly directory: string | undefined) {}

  readonly find: Secrets = ({ name, key }) => {
    this.used = true;
    if (!this.directory) return { problem: `MARGAY_SECRETS_DIR, the directory with ${name}/${key}, is not set` };
    let text: string;
    try {
      text = readFileSync(join(this.directory, name, key), 'utf8').replace(/\r?\n$/, '');
    } catch (thrown) {
      if (!(thrown instanceof Error && 'syscall' in thrown)) throw thrown;
      return { problem: `the secret ${name}/${key} is not readable (${explain(thrown)})` };
    }
    const octets = Buffer.byteLength(text);
    if (octets >= 1 && octets <= maxMd5Key) return new Secret(text);
    return { problem: `the secret ${name}/${key} has ${octets} octets, not 1 to ${maxMd5Key}` };
  };
}
