import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { removeCgroup } from '../support/cgroups.ts';
import { until } from '../support/wait.ts';
import { Cri } from './cri.ts';

/* A containerd of this test alone, in a node's network namespace, with an image made here. */

/** Name of the image, of which both sandboxes and containers are made. */
export const image = 'localhost/busybox:1';

export interface RuntimePlace {
  /** Path of the network namespace that it takes for the node's. */
  readonly netns: string;
  readonly binDir: string;
  readonly confDir: string;
  /** There is no network configuration yet. */
  readonly withoutNetwork?: boolean;
  /** Arguments of `nsenter` in place of `netns`, where the node has more namespaces of its own. */
  readonly entrance?: readonly string[];
  /** Tells it from others of this process: a part of its cgroup's name. */
  readonly name?: string;
}

export class Runtime {
  readonly #folder = mkdtempSync(join(tmpdir(), 'margay-containerd-'));
  readonly #cgroup: string;
  readonly #daemon: ChildProcess;
  #cri: Cri | undefined;
  #output = '';

  private constructor({ netns, binDir, confDir, entrance = [`--net=${netns}`, '--'], name }: RuntimePlace) {
    this.#cgroup = ['/margay-test', process.pid, ...(name === undefined ? [] : [name])].join('-');
    const config = join(this.#folder, 'config.toml');
    writeFileSync(config, configuration(this.#folder, binDir, confDir));
    this.#daemon = spawn('nsenter', [...entrance, 'containerd', '--config', config]);
    const collect = (chunk: Buffer) => {
      this.#output = (this.#output + String(chunk)).slice(-8000);
    };
    this.#daemon.stdout?.on('data', collect);
    this.#daemon.stderr?.on('data', collect);
  }

  /** Starts it and waits until it and its network are ready. */
  static async start(place: RuntimePlace): Promise<Runtime> {
    const folder = mkdtempSync(join(tmpdir(), 'margay-image-'));
    const runtime = new Runtime(place);
    try {
      await until(() => existsSync(runtime.socket), { within: 20_000, what: `containerd listens: ${runtime.output}` });
      runtime.load(makeImage(folder));
      if (!place.withoutNetwork) await runtime.ready();
    } catch (thrown) {
      await runtime.stop();
      throw thrown;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    return runtime;
  }

  /** Until pods can be started. */
  async ready(): Promise<void> {
    await until(async () => [...(await this.cri.conditions()).values()].filter(Boolean).length === 2, {
      within: 20_000,
      what: 'RuntimeReady and NetworkReady',
    });
  }

  /** A client, connected when it is first used. */
  get cri(): Cri {
    this.#cri ??= new Cri(this.socket);
    return this.#cri;
  }

  /** Path of the socket on which it listens. */
  get socket(): string {
    return join(this.#folder, 'containerd.sock');
  }

  /** Takes up the images of an archive. */
  load(archive: string): void {
    execFileSync('ctr', ['-a', this.socket, '-n', 'k8s.io', 'images', 'import', archive]);
  }

  /** Gives an image another name too. */
  tag(image: string, name: string): void {
    execFileSync('ctr', ['-a', this.socket, '-n', 'k8s.io', 'images', 'tag', image, name]);
  }

  /** Cgroup below which its pods' are. */
  get cgroup(): string {
    return this.#cgroup;
  }

  /** What it said last. */
  get output(): string {
    return this.#output;
  }

  /** Ends its pods first, so that no shim, mount or cgroup stays behind. */
  async stop(): Promise<void> {
    try {
      for (const id of await this.cri.pods()) {
        await this.cri.stopPod({ id });
        await this.cri.removePod({ id });
      }
    } finally {
      this.cri.close();
      const gone = once(this.#daemon, 'exit');
      if (this.#daemon.exitCode === null && this.#daemon.kill('SIGTERM')) await gone;
      await removeCgroup(this.#cgroup);
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }
}

function configuration(folder: string, binDir: string, confDir: string): string {
  return `version = 2
root = "${folder}/root"
state = "${folder}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "${folder}/containerd.sock"
[ttrpc]
  address = "${folder}/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "${folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${image}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${binDir}"
    conf_dir = "${confDir}"
`;
}

/** An image of busybox alone, as \`docker save\` writes it; the path of the archive. */
function makeImage(folder: string): string {
  const bin = join(folder, 'root/bin');
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, 'busybox'), readFileSync('/bin/busybox'), { mode: 0o755 });
  for (const applet of ['sh', 'sleep', 'ping', 'ip', 'nc', 'httpd', 'wget', 'cat'])
    symlinkSync('busybox', join(bin, applet));
  execFileSync('tar', ['-C', join(folder, 'root'), '-cf', join(folder, 'layer.tar'), '.']);
  const digest = createHash('sha256')
    .update(readFileSync(join(folder, 'layer.tar')))
    .digest('hex');
  const config = {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Cmd: ['/bin/sleep', '3600'], Env: ['PATH=/bin'] },
    rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  const manifest = [{ Config: 'config.json', RepoTags: [image], Layers: ['layer.tar'] }];
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify(manifest));
  const archive = join(folder, 'image.tar');
  execFileSync('tar', ['-C', folder, '-cf', archive, 'manifest.json', 'config.json', 'layer.tar']);
  return archive;
}
