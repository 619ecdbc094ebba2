import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Ended, finish } from '../e2e/support.ts';
import { createAuthority, type Pair, type TestAuthority } from '../support/certificates.ts';
import { freePorts } from '../support/etcd.ts';
import { kubeconfig } from '../support/kubernetes/cluster.ts';
import { Program, type ProgramSetup } from './program.ts';

export interface ControlPlaneSetup {
  /** Path of the network namespace that everything runs in; without it, the test's own. */
  readonly netns?: string;
  /** Where the API server listens, and the name it is reached by; default 127.0.0.1. */
  readonly address?: string;
  /** Whether kube-scheduler runs too; default false. */
  readonly scheduler?: boolean;
  /** Range of nodes' podCIDRs; default 10.244.0.0/16. */
  readonly podCidr?: string;
  /** Range of services' addresses; default 10.96.0.0/16. */
  readonly serviceCidr?: string;
  /** Further options of kube-apiserver and kube-controller-manager. */
  readonly apiServerOptions?: readonly string[];
  readonly controllerManagerOptions?: readonly string[];
}

/** Ports, all different, and the folder that everything lies in. */
interface Place {
  readonly directory: string;
  readonly address: string;
  readonly ports: Readonly<Record<'etcd' | 'etcdPeer' | 'api' | 'manager' | 'scheduler', number>>;
  readonly netns?: string;
}

const readyMs = 120_000;

/** The folder of Kubernetes' programs, which scripts/kubernetes.sh fills. @throws Error when they are missing */
export function programFolder(): string {
  const script = join(import.meta.dirname, '../../scripts/kubernetes.sh');
  const folder = execFileSync('sh', [script, '--where'], { encoding: 'utf8' }).trim();
  if (!existsSync(join(folder, 'kube-apiserver')))
    throw new Error(`there is no ${folder}/kube-apiserver; run: sh scripts/kubernetes.sh`);
  return folder;
}

/**
 * etcd, kube-apiserver and kube-controller-manager of this test alone, with an authority of their own: requests are
 * authenticated by certificates and by signed tokens of service accounts, and authorized by the modes Node and RBAC.
 */
export class ControlPlane {
  /** `https://127.0.0.1:<port>` */
  readonly url: string;
  /** Of a member of system:masters. */
  readonly adminKubeconfig: string;
  readonly etcd: Program;
  readonly apiServer: Program;
  readonly controllerManager: Program;
  readonly scheduler: Program | undefined;

  private constructor(
    readonly place: Place,
    private readonly authority: TestAuthority,
    private readonly programs: string,
    setup: ControlPlaneSetup,
  ) {
    this.url = `https://${place.address}:${place.ports.api}`;
    this.adminKubeconfig = this.#file('admin.kubeconfig');
    this.etcd = this.#program('etcd', 'etcd', etcdOptions(place));
    this.apiServer = this.#program('kube-apiserver', join(programs, 'kube-apiserver'), [
      ...apiServerOptions(place, authority, setup),
      ...(setup.apiServerOptions ?? []),
    ]);
    this.controllerManager = this.#program('kube-controller-manager', join(programs, 'kube-controller-manager'), [
      ...controllerManagerOptions(place, authority, setup),
      ...(setup.controllerManagerOptions ?? []),
    ]);
    this.scheduler = setup.scheduler
      ? this.#program('kube-scheduler', join(programs, 'kube-scheduler'), schedulerOptions(place))
      : undefined;
  }

  /** Starts all of it, and waits until it answers. */
  static async start(setup: ControlPlaneSetup = {}): Promise<ControlPlane> {
    const programs = programFolder();
    const directory = await mkdtemp(join(tmpdir(), 'margay-cluster-'));
    const [etcd = 0, etcdPeer = 0, api = 0, manager = 0, scheduler = 0] = await freePorts(5);
    const { address = '127.0.0.1', netns } = setup;
    const ports = { etcd, etcdPeer, api, manager, scheduler };
    const place: Place = { directory, address, ports, ...(netns !== undefined && { netns }) };
    const authority = await createAuthority();
    const started = new ControlPlane(place, authority, programs, setup);
    try {
      await started.#credentials();
      started.etcd.start();
      await started.startApiServer();
      started.scheduler?.start();
      // It makes service accounts; admission refuses Pods of a namespace without one.
      const accounts = async () => (await started.kubectl(['get', 'serviceaccount', 'default'])).code === 0;
      await started.controllerManager.ready(accounts, readyMs);
    } catch (thrown) {
      await started.stop();
      throw thrown;
    }
    return started;
  }

  /** Starts the API server, after `apiServer.kill()`, and waits until it is ready. */
  async startApiServer(): Promise<void> {
    const ready = async () => (await this.kubectl(['get', '--raw', '/readyz'])).stdout === 'ok';
    await this.apiServer.ready(ready, readyMs);
  }

  async stop(): Promise<void> {
    for (const program of [this.scheduler, this.controllerManager, this.apiServer, this.etcd]) await program?.kill();
    await this.authority.remove();
    await rm(this.place.directory, { recursive: true, force: true });
  }

  /** Path of one of Kubernetes' own programs. */
  program(name: string): string {
    return join(this.programs, name);
  }

  /** Kubernetes' own `kubectl`, as the administrator or whoever `--kubeconfig` names. */
  kubectl(args: readonly string[], input?: string): Promise<Ended> {
    const { netns, directory } = this.place;
    const words = [this.program('kubectl'), ...args];
    const command = netns === undefined ? words : ['nsenter', `--net=${netns}`, '--', ...words];
    const env = { PATH: process.env['PATH'], HOME: directory, KUBECONFIG: this.adminKubeconfig };
    return finish(command[0] ?? '', command.slice(1), { env, ...(input !== undefined && { input }) });
  }

  /** Its output. @throws Error with what it said, when it fails */
  async run(args: readonly string[], input?: string): Promise<string> {
    const { code, stdout, stderr } = await this.kubectl(args, input);
    if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}${stdout}`);
    return stdout;
  }

  /** Applies objects; what is there already is changed. */
  async apply(...objects: readonly object[]): Promise<string> {
    const list = { apiVersion: 'v1', kind: 'List', items: objects };
    return this.run(['apply', '-f', '-'], JSON.stringify(list));
  }

  /** An object by `kubectl get … -o json`; undefined when there is none. */
  async get<T>(...args: readonly string[]): Promise<T | undefined> {
    const text = await this.run(['get', '--ignore-not-found', '-o', 'json', ...args]);
    return text.trim() === '' ? undefined : (JSON.parse(text) as T);
  }

  /** A kubeconfig of a user with a certificate, such as `system:node:n1` of the group `system:nodes`. */
  async userKubeconfig(user: string, group?: string): Promise<string> {
    const pair = await this.authority.issue(user, group === undefined ? {} : { organization: group });
    return this.#writeKubeconfig(user, {
      'client-certificate': pair.certificateFile,
      'client-key': pair.keyFile,
    });
  }

  /** A certificate of the cluster's authority. */
  issue(name: string, alternatives: readonly string[]): Promise<Pair> {
    return this.authority.issue(name, { alternatives });
  }

  get caFile(): string {
    return this.authority.caFile;
  }

  /** A token of a service account, by TokenRequest. @param seconds at least 600 */
  async token(namespace: string, account: string, seconds = 3600): Promise<string> {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`;
    const asked = {
      ...{ apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest' },
      spec: { audiences: [], expirationSeconds: seconds },
    };
    const answer = await this.run(['create', '--raw', path, '-f', '-'], JSON.stringify(asked));
    return (JSON.parse(answer) as { status: { token: string } }).status.token;
  }

  /** A folder with `token`, `ca.crt` and `namespace`, as the kubelet mounts it into Pods of a service account. */
  async accountFolder(namespace: string, account: string): Promise<string> {
    const folder = await mkdtemp(this.#file(`${account}-`));
    await writeFile(join(folder, 'token'), await this.token(namespace, account));
    await writeFile(join(folder, 'ca.crt'), await readFile(this.caFile));
    await writeFile(join(folder, 'namespace'), namespace);
    return folder;
  }

  /** A kubeconfig of a service account, with a token. */
  async accountKubeconfig(namespace: string, account: string): Promise<string> {
    return this.#writeKubeconfig(account, { token: await this.token(namespace, account) });
  }

  /** Makes etcd forget its history, as kube-apiserver does every five minutes. Only without a namespace of its own. */
  async compact(): Promise<void> {
    const call = async (path: string, body: object) => {
      const url = `http://127.0.0.1:${this.place.ports.etcd}/v3/kv/${path}`;
      const answer = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
      if (!answer.ok) throw new Error(`etcd ${path}: ${await answer.text()}`);
      return (await answer.json()) as { header: { revision: string } };
    };
    const { header } = await call('range', { key: 'AA==' });
    await call('compaction', { revision: header.revision, physical: true });
  }

  #file(name: string): string {
    return join(this.place.directory, name);
  }

  #program(name: string, command: string, args: readonly string[]): Program {
    const { netns } = this.place;
    const setup: ProgramSetup = {
      command,
      args,
      logFile: this.#file(`${name}.log`),
      ...(netns !== undefined && { netns }),
    };
    return new Program(setup);
  }

  async #credentials(): Promise<void> {
    const { address } = this.place;
    await this.authority.issue('kube-apiserver', {
      alternatives: ['DNS:localhost', 'DNS:kubernetes.default.svc', 'IP:127.0.0.1', 'IP:10.96.0.1', `IP:${address}`],
    });
    // Signs tokens of service accounts; its certificate is the public half.
    await this.authority.issue('service-accounts');
    await this.authority.issue('kube-apiserver-kubelet-client', { organization: 'system:masters' });
    const users = { admin: 'system:masters', 'system:kube-controller-manager': '', 'system:kube-scheduler': '' };
    for (const [user, group] of Object.entries(users)) await this.userKubeconfig(user, group || undefined);
  }

  async #writeKubeconfig(name: string, user: Readonly<Record<string, string>>): Promise<string> {
    await mkdir(this.place.directory, { recursive: true });
    const file = this.#file(`${name}.kubeconfig`);
    await writeFile(file, kubeconfig(this.url, user, { 'certificate-authority': this.caFile }), { mode: 0o600 });
    return file;
  }
}

function etcdOptions({ directory, ports }: Place): string[] {
  const client = `http://127.0.0.1:${ports.etcd}`;
  const peer = `http://127.0.0.1:${ports.etcdPeer}`;
  return [
    ...['--data-dir', join(directory, 'etcd'), '--log-level', 'error', '--unsafe-no-fsync'],
    ...['--listen-client-urls', client, '--advertise-client-urls', client],
    ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `default=${peer}`],
  ];
}

function apiServerOptions(
  { address, ports, directory }: Place,
  { directory: keys, caFile }: TestAuthority,
  setup: ControlPlaneSetup,
): string[] {
  const key = (name: string) => join(keys, name);
  return [
    ...['--etcd-servers', `http://127.0.0.1:${ports.etcd}`, '--etcd-compaction-interval', '0'],
    ...['--bind-address', address, '--advertise-address', address, '--secure-port', String(ports.api)],
    ...['--cert-dir', directory, '--client-ca-file', caFile],
    ...['--tls-cert-file', key('kube-apiserver.pem'), '--tls-private-key-file', key('kube-apiserver-key.pem')],
    ...['--service-account-issuer', 'https://kubernetes.default.svc'],
    ...['--service-account-key-file', key('service-accounts.pem')],
    ...['--service-account-signing-key-file', key('service-accounts-key.pem')],
    ...['--kubelet-client-certificate', key('kube-apiserver-kubelet-client.pem')],
    ...['--kubelet-client-key', key('kube-apiserver-kubelet-client-key.pem')],
    ...['--kubelet-preferred-address-types', 'InternalIP,Hostname'],
    ...['--authorization-mode', 'Node,RBAC', '--enable-admission-plugins', 'NodeRestriction'],
    ...['--service-cluster-ip-range', setup.serviceCidr ?? '10.96.0.0/16', '--allow-privileged=true'],
  ];
}

function controllerManagerOptions(
  place: Place,
  { directory: keys, caFile }: TestAuthority,
  setup: ControlPlaneSetup,
): string[] {
  const own = join(place.directory, 'system:kube-controller-manager.kubeconfig');
  return [
    ...['--kubeconfig', own, '--authentication-kubeconfig', own, '--authorization-kubeconfig', own],
    ...['--bind-address', '127.0.0.1', '--secure-port', String(place.ports.manager), '--port', '0'],
    ...['--cert-dir', place.directory, '--root-ca-file', caFile, '--leader-elect=false'],
    ...['--service-account-private-key-file', join(keys, 'service-accounts-key.pem')],
    ...['--use-service-account-credentials=true', '--controllers', '*'],
    ...['--allocate-node-cidrs=true', '--cluster-cidr', setup.podCidr ?? '10.244.0.0/16'],
    ...['--service-cluster-ip-range', setup.serviceCidr ?? '10.96.0.0/16'],
  ];
}

function schedulerOptions({ directory, ports }: Place): string[] {
  const own = join(directory, 'system:kube-scheduler.kubeconfig');
  return [
    ...['--kubeconfig', own, '--authentication-kubeconfig', own, '--authorization-kubeconfig', own],
    ...['--bind-address', '127.0.0.1', '--secure-port', String(ports.scheduler), '--port', '0'],
    ...['--cert-dir', directory, '--leader-elect=false'],
  ];
}
