import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import { StoreUnavailableError } from '../store.ts';
import type { KubernetesConfig } from './config.ts';
import { Credentials } from './credentials.ts';
import { ApiServer } from './http.ts';
import { builtIn, objectPath } from './resources.ts';
import { failureOf } from './status.ts';

/** A token for a service account, and the server that takes it. */
export interface IssuedToken {
  readonly server: string;
  /** The authority's certificates, PEM. */
  readonly ca: string;
  readonly token: string;
  readonly expires: Date;
}

/** How a Pod reaches the API. */
export type PodAccess = Extract<KubernetesConfig['access'], { by: 'serviceAccount' }>;

const accounts = builtIn('', 'v1', 'ServiceAccount', 'serviceaccounts', true);
/** Milliseconds for one answer. */
const withinMs = 4000;

/** Asks for tokens of a service account in the Pod's own namespace, as the Pod's (authentication.k8s.io/v1 TokenRequest). */
export class TokenIssuer {
  readonly #server: ApiServer;

  constructor(
    private readonly access: PodAccess,
    private readonly log: Log,
    clock: Clock = systemClock,
  ) {
    const config: KubernetesConfig = { type: 'kubernetes', access, interfacePrefix: '' };
    this.#server = new ApiServer(new Credentials(config, clock, log), clock, log);
  }

  /**
   * @param seconds that it is to live; the server may make it less, but never takes less than 600
   * @throws StoreUnavailableError when there is no such account, no right to ask, or no answer
   */
  async issue(account: string, seconds: number): Promise<IssuedToken> {
    const { server, directory } = this.access;
    const read = (name: string) => readFile(join(directory, name), 'utf8');
    const [namespace, ca] = await Promise.all([read('namespace'), read('ca.crt')]);
    const path = `${objectPath({ resource: accounts, namespace: namespace.trim(), name: account })}/token`;
    const asked = {
      ...{ apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest' },
      spec: { audiences: [], expirationSeconds: seconds },
    };
    const body = { type: 'application/json', text: JSON.stringify(asked) };
    const answer = await this.#server.call({ method: 'POST', path, withinMs, body });
    if (answer.status === 404)
      throw new StoreUnavailableError(`token: no ServiceAccount ${account} in namespace ${namespace.trim()}`);
    if (answer.status !== 200 && answer.status !== 201) throw failureOf(`POST ${path}`, answer);
    const { token, expires } = issuedBy(answer.text);
    this.log.debug({ account, expires }, 'token issued');
    return { server, ca, token, expires };
  }

  close(): void {
    this.#server.close();
  }
}

/** @throws StoreUnavailableError for an answer without token or end, as a proxy may give it */
function issuedBy(text: string): { token: string; expires: Date } {
  let status: { token?: unknown; expirationTimestamp?: unknown } | undefined;
  try {
    status = (JSON.parse(text) as { status?: typeof status } | null)?.status;
  } catch (cause) {
    throw new StoreUnavailableError('TokenRequest: the answer is no JSON', { cause });
  }
  const expires = new Date(String(status?.expirationTimestamp));
  if (typeof status?.token !== 'string' || status.token === '' || Number.isNaN(expires.getTime()))
    throw new StoreUnavailableError('TokenRequest: the answer has no status.token and status.expirationTimestamp');
  return { token: status.token, expires };
}
