import { readFile } from 'node:fs/promises';
import { Agent as HttpAgent, type RequestOptions } from 'node:http';
import { Agent as HttpsAgent, type RequestOptions as HttpsOptions } from 'node:https';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { EnvironmentError, explain } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { KubernetesConfig } from './config.ts';

/** Everything a request needs besides its path. */
export interface Access {
  /** Scheme, host, port, and the path that all paths begin with. */
  readonly server: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly agent: HttpAgent;
}

type Material = Pick<HttpsOptions, 'ca' | 'cert' | 'key' | 'servername' | 'rejectUnauthorized' | 'auth'> & {
  readonly server: string;
  readonly headers: Readonly<Record<string, string>>;
  /** A proxy's, where the kubeconfig names one. */
  readonly agent?: HttpAgent;
};

/** How long tokens and certificates count as fresh; the kubelet renews them minutes before their end. */
const freshMs = 10_000;
/** Idle connections are closed before a load balancer's or the server's own time for it. */
const idleMs = 30_000;

/** Tokens and certificates by their files' newest state, and the connections that were made with them. */
export class Credentials {
  #known: { readonly at: number; readonly text: string; readonly access: Access } | undefined;

  constructor(
    private readonly config: KubernetesConfig,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /** @throws EnvironmentError when a file cannot be read or understood at first; later, what was read before is kept */
  async access(): Promise<Access> {
    const now = this.clock.monotonic();
    if (this.#known && now - this.#known.at < freshMs) return this.#known.access;
    const material = await this.#load();
    if (material === undefined) return this.#keep(now);
    const { agent: proxy, ...plain } = material;
    const text = JSON.stringify(plain);
    if (this.#known?.text === text) return this.#keep(now);
    // Requests under way keep their connection; idle ones made with other credentials are closed.
    this.#known?.access.agent.destroy();
    const access = {
      server: new URL(material.server),
      headers: headersOf(material),
      agent: proxy ?? agentOf(material),
    };
    this.#known = { at: now, text, access };
    return access;
  }

  /** The server refused what was sent: read everything again before the next request. */
  expire(): void {
    if (this.#known) this.#known = { ...this.#known, at: Number.NEGATIVE_INFINITY };
  }

  close(): void {
    this.#known?.access.agent.destroy();
  }

  #keep(now: number): Access {
    if (this.#known === undefined) throw new TypeError('no credentials are known');
    this.#known = { ...this.#known, at: now };
    return this.#known.access;
  }

  async #load(): Promise<Material | undefined> {
    const { access } = this.config;
    const files = access.by === 'kubeconfig' ? access.files.join(':') : access.directory;
    try {
      if (access.by === 'serviceAccount') return await readServiceAccount(access);
      return await readKubeconfig(access.files);
    } catch (cause) {
      if (this.#known) {
        this.log.warn({ files, reason: explain(cause) }, 'credentials cannot be read again; the known ones stay');
        return undefined;
      }
      throw new EnvironmentError(
        `no access to the Kubernetes API by ${files}`,
        'name another by KUBECONFIG, or make it readable and valid',
        {
          cause,
        },
      );
    }
  }
}

async function readServiceAccount({ server, directory }: { server: string; directory: string }): Promise<Material> {
  const [token, ca] = await Promise.all([
    readFile(join(directory, 'token'), 'utf8'),
    readFile(join(directory, 'ca.crt'), 'utf8'),
  ]);
  return { server, ca, headers: { Authorization: `Bearer ${token.trim()}` } };
}

/** Through the client library, which knows tokens, certificates, basic authentication, exec plugins, OIDC and proxies. */
async function readKubeconfig(files: readonly string[]): Promise<Material> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  for (const [at, file] of files.entries()) {
    const part = at === 0 ? config : new KubeConfig();
    part.loadFromFile(file);
    if (part !== config) config.mergeConfig(part, true);
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new Error('no current context with a cluster');
  const options: HttpsOptions = {};
  // The library refuses plain HTTP unless verification is off, which means nothing without TLS.
  if (cluster.server.startsWith('http:')) Object.assign(cluster, { skipTLSVerify: true });
  await config.applyToHTTPSOptions(options);
  const { ca, cert, key, servername, rejectUnauthorized, auth, agent } = options;
  return {
    server: cluster.server,
    headers: plainHeaders(options.headers),
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    ...(servername && { servername }),
    ...(rejectUnauthorized !== undefined && { rejectUnauthorized }),
    ...(auth && { auth }),
    ...(cluster.proxyUrl && agent instanceof HttpAgent && { agent }),
  };
}

function plainHeaders(headers: RequestOptions['headers']): Record<string, string> {
  return Object.fromEntries(Object.entries(headers ?? {}).map(([name, value]) => [name, String(value)]));
}

function headersOf({ headers, auth }: Material): Record<string, string> {
  return auth ? { ...headers, Authorization: `Basic ${Buffer.from(auth).toString('base64')}` } : { ...headers };
}

function agentOf({ server, ca, cert, key, servername, rejectUnauthorized }: Material): HttpAgent {
  const common = { keepAlive: true, timeout: idleMs };
  if (server.startsWith('http:')) return new HttpAgent(common);
  return new HttpsAgent({
    ...common,
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    ...(servername && { servername }),
    ...(rejectUnauthorized !== undefined && { rejectUnauthorized }),
  });
}
