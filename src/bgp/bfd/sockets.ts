import { createSocket, type Socket } from 'node:dgram';
import { KernelError } from '../../kernel/types.ts';
import { openUdp } from '../../kernel/udp.ts';
import { type Family, familyOf, isLinkLocal } from '../../model/address.ts';
import type { BfdSender, BfdTarget } from './settings.ts';

/** RFC 5881 §4, RFC 5883 §5. */
export const singleHopPort = 3784;
export const multihopPort = 4784;
const firstSourcePort = 49152;
const lastSourcePort = 65535;
/** DSCP CS6, network control. */
const trafficClass = 0xc0;
const ttl = 255;
/** Source ports tried before the host counts as out of them. */
const portAttempts = 64;

/** The socket that hears packets of one family and kind. Single-hop packets with another TTL than 255 are not heard. */
export function openReceiver(
  family: Family,
  multihop: boolean,
  heard: (payload: Uint8Array, from: BfdSender) => void,
  failed: (error: Error) => void,
): Socket {
  const port = multihop ? multihopPort : singleHopPort;
  const fd = openUdp({ family, port, ...(multihop ? {} : { onlyTtl: ttl }) });
  const socket = adopt(family, fd, failed);
  socket.on('message', (payload, { address: text }) => {
    const [address = '', zone] = text.split('%');
    heard(payload, { address, ...(zone ? { zone } : {}) });
  });
  return socket;
}

/** A session's own socket to send from, with a source port of its own. RFC 5881 §4. */
export function openSender(
  { address: remote, localAddress, interface: device }: BfdTarget,
  random: () => number,
  failed: (error: Error) => void,
): Socket {
  const family = familyOf(remote);
  const bound = localAddress === undefined ? {} : { address: localAddress };
  const zone = device && localAddress && isLinkLocal(localAddress) ? { device } : {};
  for (let attempt = 1; ; attempt++) {
    const port = firstSourcePort + Math.floor(random() * (lastSourcePort - firstSourcePort + 1));
    try {
      return adopt(family, openUdp({ family, port, ttl, trafficClass, ...bound, ...zone }), failed);
    } catch (thrown) {
      if (!(thrown instanceof KernelError) || thrown.code !== 'EADDRINUSE' || attempt === portAttempts) throw thrown;
    }
  }
}

/** Where a session's packets go; a link-local address needs its device. */
export function destinationOf({ address, interface: device }: BfdTarget): string {
  return device && isLinkLocal(address) ? `${address}%${device}` : address;
}

function adopt(family: Family, fd: number, failed: (error: Error) => void): Socket {
  const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
  socket.on('error', failed);
  socket.bind({ fd });
  return socket;
}
