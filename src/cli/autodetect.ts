import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import type { NetworkInterfaceInfo } from 'node:os';
import { EnvironmentError, InputError } from '../base/errors.ts';
import { type Cidr, contains, type Family, parseCidr, parseIp } from '../model/address.ts';

/** Devices as `os.networkInterfaces()` gives them: those that are up, with their addresses. */
export type Interfaces = Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>;

/** Devices that never carry a node's own address: other software's bridges, tunnels and our own. */
const foreign =
  /^(docker|cbr|dummy|virbr|lxcbr|veth|lo$|cali|tunl|flannel|kube-ipvs|cni|vxlan\.|udp\.margay|wireguard|nodelocaldns|br-)/;

export type Method =
  | { readonly by: 'first-found' }
  | { readonly by: 'interface' | 'skip-interface'; readonly names: readonly RegExp[] }
  | { readonly by: 'cidr'; readonly cidrs: readonly Cidr[] }
  | { readonly by: 'can-reach'; readonly target: string };

/** IP_AUTODETECTION_METHOD and its IPv6 sibling. @throws InputError naming `field` */
export function parseMethod(text: string | undefined, field: string): Method {
  if (text === undefined || text === '' || text === 'first-found') return { by: 'first-found' };
  const at = text.indexOf('=');
  const by = text.slice(0, Math.max(0, at));
  const items = text
    .slice(at + 1)
    .split(',')
    .filter((item) => item !== '');
  if (items.length > 0) {
    if (by === 'interface' || by === 'skip-interface') return { by, names: items.map((item) => pattern(item, field)) };
    if (by === 'cidr') return { by, cidrs: items.map((item) => parseCidr(item, field)) };
    if (by === 'can-reach' && items.length === 1) return { by, target: parseIp(items[0] ?? '', field) };
  }
  throw new InputError(
    field,
    text,
    'first-found, interface=PATTERN, skip-interface=PATTERN, cidr=PREFIX or can-reach=ADDRESS',
  );
}

function pattern(text: string, field: string): RegExp {
  try {
    return new RegExp(`^(?:${text})$`);
  } catch (cause) {
    throw new InputError(field, text, 'a regular expression of device names', { cause });
  }
}

/** Addresses of one family with their masks, in the order of the devices; no loopback, no link-local. */
export function candidates(interfaces: Interfaces, family: Family): { device: string; cidr: string }[] {
  return Object.entries(interfaces).flatMap(([device, addresses]) =>
    (addresses ?? [])
      .filter(({ family: found, internal }) => found === `IPv${family}` && !internal)
      .filter(({ address }) => !address.startsWith('fe80:') && !address.startsWith('169.254.'))
      .flatMap(({ cidr }) => (cidr === null ? [] : [{ device, cidr }])),
  );
}

/**
 * The node's own address with its mask by the method. Pure but for `can-reach`, which asks the kernel.
 * @throws EnvironmentError that lists what was seen, when no address fits
 */
export async function autodetect(method: Method, family: Family, interfaces: Interfaces): Promise<string> {
  const seen = candidates(interfaces, family);
  const fit = method.by === 'can-reach' ? await reaching(method.target, seen) : seen.filter(matches(method));
  const found = fit[0];
  if (found) return found.cidr;
  const list = seen.map(({ device, cidr }) => `${cidr} on ${device}`).join(', ') || 'none';
  throw new EnvironmentError(
    `no IPv${family} address of this node by ${method.by} (addresses seen: ${list})`,
    `set ${family === 4 ? 'IP' : 'IP6'} to the node's address, for example 192.0.2.10/24, or choose another ${family === 4 ? 'IP' : 'IP6'}_AUTODETECTION_METHOD`,
  );
}

function matches(
  method: Exclude<Method, { by: 'can-reach' }>,
): (candidate: { device: string; cidr: string }) => boolean {
  switch (method.by) {
    case 'first-found':
      return ({ device }) => !foreign.test(device);
    case 'interface':
      return ({ device }) => method.names.some((name) => name.test(device));
    case 'skip-interface':
      return ({ device }) => !foreign.test(device) && !method.names.some((name) => name.test(device));
    case 'cidr':
      return ({ cidr }) => method.cidrs.some((outer) => contains(outer, parseIp(addressOf(cidr))));
  }
}

/** Which of the addresses the kernel would send from; a UDP connect sends nothing. */
async function reaching<T extends { cidr: string }>(target: string, seen: readonly T[]): Promise<T[]> {
  const socket = createSocket(target.includes(':') ? 'udp6' : 'udp4');
  try {
    socket.connect(53, target);
    await once(socket, 'connect');
    const source = parseIp(socket.address().address);
    return seen.filter(({ cidr }) => parseIp(addressOf(cidr)) === source);
  } catch (cause) {
    throw new EnvironmentError(`no route to ${target}`, 'choose another address for can-reach', { cause });
  } finally {
    socket.close();
  }
}

/** `192.0.2.7/24` → `192.0.2.7`. */
export function addressOf(cidr: string): string {
  return cidr.slice(0, cidr.indexOf('/'));
}
