import { type Reader, Writer } from '../../base/bytes.ts';
import type { Family } from '../../model/address.ts';
import { subcodes, WireError } from './errors.ts';

/** Capability codes. RFC 4760, 2918, 8950, 8654, 4724, 6793, 7911, 7313, 9494. */
export const capabilityCodes = {
  multiprotocol: 1,
  routeRefresh: 2,
  extendedNextHop: 5,
  extendedMessages: 6,
  gracefulRestart: 64,
  fourOctetAs: 65,
  addPath: 69,
  enhancedRefresh: 70,
  longLivedRestart: 71,
} as const;

/** A family in a graceful restart capability, with its forwarding state bit. */
export interface RestartFamily {
  readonly family: Family;
  /** The F bit: forwarding state for the family outlived the restart. */
  readonly preserved: boolean;
}

/** A family whose prefixes may have next hops of another one. RFC 8950 §4. */
export interface NextHopFamily {
  readonly family: Family;
  readonly nextHop: Family;
}

/** A family of which the sender takes or tells several paths of a prefix. RFC 7911 §4. */
export interface PathFamily {
  readonly family: Family;
  readonly receive: boolean;
  readonly send: boolean;
}

/** A family in a long-lived graceful restart capability. RFC 9494 §3. */
export interface LongLivedFamily extends RestartFamily {
  /** How long its routes stay after the restart time; 24 bits. */
  readonly staleSeconds: number;
}

export type Capability =
  | { readonly capability: 'multiprotocol'; readonly family: Family }
  | { readonly capability: 'routeRefresh' | 'enhancedRefresh' | 'extendedMessages' }
  | { readonly capability: 'extendedNextHop'; readonly families: readonly NextHopFamily[] }
  | {
      readonly capability: 'gracefulRestart';
      /** The R bit: the sender has restarted. */
      readonly restarted: boolean;
      /** The N bit: a NOTIFICATION may be followed by a graceful restart too. RFC 8538 §2. */
      readonly notification: boolean;
      readonly restartSeconds: number;
      readonly families: readonly RestartFamily[];
    }
  | { readonly capability: 'longLivedRestart'; readonly families: readonly LongLivedFamily[] }
  | { readonly capability: 'addPath'; readonly families: readonly PathFamily[] }
  | { readonly capability: 'fourOctetAs'; readonly asn: number }
  | { readonly capability: 'unknown'; readonly code: number; readonly value: Uint8Array };

/** SAFI of unicast. RFC 4760 §6. */
export const unicast = 1;

/** Address family identifier of a family. */
export function afiOf(family: Family): number {
  return family === 4 ? 1 : 2;
}

/** The family of an AFI, if we know it. */
export function familyOfAfi(afi: number): Family | undefined {
  return afi === 1 ? 4 : afi === 2 ? 6 : undefined;
}

/**
 * One capability of an OPEN: code, length, value. RFC 5492 §4. Families we do not know come back as `unknown`.
 * @throws WireError 2/0 on a length that does not fit a code we know; TruncatedError past the end
 */
export function readCapability(r: Reader): Capability {
  const code = r.u8('capability.code');
  const length = r.u8('capability.length');
  const value = r.sub(length, 'capability.value');
  const unknown = (): Capability => ({
    capability: 'unknown',
    code,
    value: value.buffer.slice(value.offset, value.offset + value.left),
  });
  switch (code) {
    case capabilityCodes.multiprotocol: {
      expectLength(code, length, length === 4);
      const family = familyOfAfi(value.u16('capability.afi'));
      value.u8('capability.reserved');
      const safi = value.u8('capability.safi');
      if (family === undefined || safi !== unicast) {
        return { capability: 'unknown', code, value: value.buffer.slice(value.offset - 4, value.offset) };
      }
      return { capability: 'multiprotocol', family };
    }
    case capabilityCodes.routeRefresh:
      expectLength(code, length, length === 0);
      return { capability: 'routeRefresh' };
    case capabilityCodes.extendedNextHop:
      expectLength(code, length, length % 6 === 0);
      return { capability: 'extendedNextHop', families: readNextHops(value) };
    case capabilityCodes.extendedMessages:
      expectLength(code, length, length === 0);
      return { capability: 'extendedMessages' };
    case capabilityCodes.enhancedRefresh:
      expectLength(code, length, length === 0);
      return { capability: 'enhancedRefresh' };
    case capabilityCodes.addPath:
      expectLength(code, length, length % 4 === 0);
      return { capability: 'addPath', families: readPathFamilies(value) };
    case capabilityCodes.longLivedRestart:
      expectLength(code, length, length % 7 === 0);
      return { capability: 'longLivedRestart', families: readLongLived(value) };
    case capabilityCodes.gracefulRestart:
      expectLength(code, length, length >= 2 && (length - 2) % 4 === 0);
      return readRestart(value);
    case capabilityCodes.fourOctetAs:
      expectLength(code, length, length === 4);
      return { capability: 'fourOctetAs', asn: value.u32('capability.asn') };
    default:
      return unknown();
  }
}

/** AFI, SAFI in 16 bits, AFI of the next hop. RFC 8950 §4. */
function readNextHops(r: Reader): NextHopFamily[] {
  const families: NextHopFamily[] = [];
  while (r.left > 0) {
    const family = familyOfAfi(r.u16('capability.afi'));
    const safi = r.u16('capability.safi');
    const nextHop = familyOfAfi(r.u16('capability.nextHopAfi'));
    if (family !== undefined && nextHop !== undefined && safi === unicast) families.push({ family, nextHop });
  }
  return families;
}

/** AFI, SAFI, and 1 (receive), 2 (send) or 3 (both); other values say nothing. RFC 7911 §4. */
function readPathFamilies(r: Reader): PathFamily[] {
  const families: PathFamily[] = [];
  while (r.left > 0) {
    const family = familyOfAfi(r.u16('capability.afi'));
    const safi = r.u8('capability.safi');
    const way = r.u8('capability.sendReceive');
    if (family === undefined || safi !== unicast || way < 1 || way > 3) continue;
    families.push({ family, receive: (way & 1) !== 0, send: (way & 2) !== 0 });
  }
  return families;
}

/** RFC 4724 §3: flags and restart time, then AFI, SAFI, flags of each family. */
function readRestart(r: Reader): Capability {
  const head = r.u16('capability.restart');
  const families: RestartFamily[] = [];
  while (r.left > 0) {
    const family = familyOfAfi(r.u16('capability.afi'));
    const safi = r.u8('capability.safi');
    const flags = r.u8('capability.flags');
    if (family !== undefined && safi === unicast) families.push({ family, preserved: (flags & 0x80) !== 0 });
  }
  return {
    capability: 'gracefulRestart',
    restarted: (head & 0x8000) !== 0,
    notification: (head & 0x4000) !== 0,
    restartSeconds: head & 0x0fff,
    families,
  };
}

/** AFI, SAFI, flags and 24 bits of seconds of each family. */
function readLongLived(r: Reader): LongLivedFamily[] {
  const families: LongLivedFamily[] = [];
  while (r.left > 0) {
    const family = familyOfAfi(r.u16('capability.afi'));
    const safi = r.u8('capability.safi');
    const preserved = (r.u8('capability.flags') & 0x80) !== 0;
    const staleSeconds = r.u8('capability.staleTime') * 0x10000 + r.u16('capability.staleTime');
    if (family !== undefined && safi === unicast) families.push({ family, preserved, staleSeconds });
  }
  return families;
}

/** One capability as code, length and value. RFC 5492 §4. */
export function writeCapability(w: Writer, capability: Capability): void {
  const value = new Writer(8);
  const code = writeValue(value, capability);
  w.u8(code);
  w.u8(value.length);
  w.bytes(value.finish());
}

function writeValue(w: Writer, capability: Capability): number {
  switch (capability.capability) {
    case 'multiprotocol':
      w.u16(afiOf(capability.family));
      w.u8(0);
      w.u8(unicast);
      return capabilityCodes.multiprotocol;
    case 'routeRefresh':
    case 'enhancedRefresh':
    case 'extendedMessages':
      return capabilityCodes[capability.capability];
    case 'extendedNextHop':
      for (const { family, nextHop } of capability.families) {
        w.u16(afiOf(family));
        w.u16(unicast);
        w.u16(afiOf(nextHop));
      }
      return capabilityCodes.extendedNextHop;
    case 'gracefulRestart':
      w.u16(
        (capability.restarted ? 0x8000 : 0) |
          (capability.notification ? 0x4000 : 0) |
          (capability.restartSeconds & 0x0fff),
      );
      for (const { family, preserved } of capability.families) {
        w.u16(afiOf(family));
        w.u8(unicast);
        w.u8(preserved ? 0x80 : 0);
      }
      return capabilityCodes.gracefulRestart;
    case 'longLivedRestart':
      for (const { family, preserved, staleSeconds } of capability.families) {
        w.u16(afiOf(family));
        w.u8(unicast);
        w.u8(preserved ? 0x80 : 0);
        w.u8(staleSeconds >>> 16);
        w.u16(staleSeconds & 0xffff);
      }
      return capabilityCodes.longLivedRestart;
    case 'addPath':
      for (const { family, receive, send } of capability.families) {
        w.u16(afiOf(family));
        w.u8(unicast);
        w.u8((receive ? 1 : 0) | (send ? 2 : 0));
      }
      return capabilityCodes.addPath;
    case 'fourOctetAs':
      w.u32(capability.asn);
      return capabilityCodes.fourOctetAs;
    case 'unknown':
      w.bytes(capability.value);
      return capability.code;
  }
}

function expectLength(code: number, length: number, fits: boolean): void {
  if (!fits) throw new WireError('open', 0, 'reset', 'capability.length', `${length} for capability ${code}`);
}

/** NOTIFICATION data of 2/7: the capabilities that the peer lacks. RFC 5492 §5. */
export function missingCapability(capability: Capability): WireError {
  const w = new Writer(8);
  writeCapability(w, capability);
  const detail = `${capability.capability} is missing`;
  return new WireError('open', subcodes.open.badCapability, 'reset', 'open.capabilities', detail, w.finish());
}
