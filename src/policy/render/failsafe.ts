import { InputError } from '../../base/errors.ts';
import { type Cidr, parseCidr } from '../../model/address.ts';

/** A port of the host that no policy closes, for one prefix of the other end or for all. */
export interface Failsafe {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly port: number;
  readonly net?: Cidr;
}

const tcp = (...ports: readonly number[]) => ports.map((port): Failsafe => ({ protocol: 'tcp', port }));
const udp = (...ports: readonly number[]) => ports.map((port): Failsafe => ({ protocol: 'udp', port }));

/** Calico's: SSH, BGP, etcd, Typha and the API server; DHCP and names. */
export const defaultFailsafe: { readonly inbound: readonly Failsafe[]; readonly outbound: readonly Failsafe[] } = {
  inbound: [...tcp(22, 179, 2379, 2380, 5473, 6443, 6666, 6667), ...udp(68)],
  outbound: [...tcp(179, 2379, 2380, 5473, 6443, 6666, 6667), ...udp(53, 67)],
};

const entryOf = /^(?:(tcp|udp|sctp):)?(?:\[?([0-9a-f.:]+\/\d{1,3})\]?:)?(\d{1,5})$/i;

/**
 * `tcp:22,udp:68,tcp:10.0.0.0/8:80,tcp:[fd00::/8]:80`; a number alone is of TCP, and `none` is none.
 * @throws InputError naming `field`
 */
export function parseFailsafe(text: string, field: string): Failsafe[] {
  if (text.trim().toLowerCase() === 'none') return [];
  return text.split(',').map((entry) => {
    const [, protocol = 'tcp', net, number] = entryOf.exec(entry.trim()) ?? [];
    const port = Number(number);
    if (!(port >= 1 && port <= 65535))
      throw new InputError(field, entry, 'none, or ports such as tcp:22 and udp:68, separated by commas');
    return {
      protocol: protocol.toLowerCase() as Failsafe['protocol'],
      port,
      ...(net !== undefined && { net: parseCidr(net, field) }),
    };
  });
}

/** What `parseFailsafe` reads. */
export function formatFailsafe(ports: readonly Failsafe[]): string {
  const one = ({ protocol, port, net }: Failsafe) => `${protocol}:${net === undefined ? '' : `[${net}]:`}${port}`;
  return ports.length === 0 ? 'none' : ports.map(one).join(',');
}
