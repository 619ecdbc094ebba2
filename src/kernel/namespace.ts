import { openNetlink } from './rtnetlink/driver.ts';
import { inNamespace } from './setns.ts';
import type { Netlink } from './types.ts';

export { inNamespace, warmThreads } from './setns.ts';

/** rtnetlink of the namespace at `path`, with options as for `openNetlink`. @throws InputError, KernelError */
export function openNetlinkIn(path: string, options: { readonly aside?: boolean } = {}): Netlink {
  return inNamespace(path, () => openNetlink(options));
}
