import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** Loaded before anything else: what the guest mounts the host's files with. */
export const bootModules = ['virtio_pci', '9pnet_virtio', '9p'];

/** Loaded at boot, so that nothing depends on the guest's finding modules by itself; libcrc32c wants a crc32c first. */
export const suiteModules = [
  'crc32c_generic',
  ...['veth', 'bridge', 'vxlan', 'nf_conntrack_netlink', 'nft_compat', 'nft_chain_nat', 'nft_ct'],
  ...['ip_set_hash_net', 'ip_set_hash_ipport', 'xt_set', 'xt_mark', 'xt_conntrack', 'xt_addrtype', 'xt_u32'],
  ...['xt_multiport', 'xt_tcpudp', 'xt_MASQUERADE', 'ipt_rpfilter', 'ip6t_rpfilter', 'xt_comment'],
];

/** Left for the suite to load, which begins without it. */
export const lateModules = ['ipip'];

/** A kernel module, unpacked. */
export interface Module {
  readonly name: string;
  readonly data: Buffer;
}

/** All modules below a folder, by name. */
export class ModuleTree {
  readonly #files = new Map<string, string>();
  readonly #loaded = new Map<string, Module>();

  /** @param folder `lib/modules/<release>` of the kernel's package */
  constructor(folder: string) {
    for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' }))
      if (/\.ko(\.xz)?$/.test(path)) this.#files.set(nameOf(path), join(folder, path));
  }

  /** The modules with all that they need, in the order to load them; one that is built into the kernel is left out. */
  inOrder(names: readonly string[]): Module[] {
    const ordered = new Map<string, Module>();
    const visit = (name: string) => {
      if (ordered.has(name)) return;
      const module = this.#module(name);
      if (!module) return;
      for (const needed of dependenciesOf(module.data)) visit(needed);
      ordered.set(name, module);
    };
    for (const name of names) visit(name);
    return [...ordered.values()];
  }

  #module(name: string): Module | undefined {
    const path = this.#files.get(name);
    const known = this.#loaded.get(name);
    if (known || path === undefined) return known;
    const data = path.endsWith('.xz') ? execFileSync('xz', ['-dc', path], { maxBuffer: 1 << 28 }) : readFileSync(path);
    const module = { name, data };
    this.#loaded.set(name, module);
    return module;
  }
}

function nameOf(path: string): string {
  return basename(path)
    .replace(/\.ko(\.xz)?$/, '')
    .replaceAll('-', '_');
}

/** `depends=` of the module's .modinfo section, a text among others that each end with a NUL. */
function dependenciesOf(data: Buffer): string[] {
  const text = /(?<![a-z_])depends=([\w,-]*)\0/.exec(data.toString('latin1'))?.[1] ?? '';
  return text.split(',').flatMap((name) => (name === '' ? [] : [name.replaceAll('-', '_')]));
}
