import { Reader, TruncatedError, Writer } from '../../base/bytes.ts';
import { formatIp, type Ip, ipBytes } from '../../model/address.ts';
import { type Capability, readCapability, writeCapability } from './capabilities.ts';
import { subcodes, WireError } from './errors.ts';

/** Stands in the two-octet AS field for numbers that do not fit. RFC 6793 §9. */
export const asTrans = 23456;

/** OPEN. RFC 4271 §4.2. */
export interface Open {
  /** The two-octet field as it stands; `asnOf` gives the real number. */
  readonly asn: number;
  readonly holdSeconds: number;
  readonly identifier: Ip;
  readonly capabilities: readonly Capability[];
}

/** The sender's AS number: of the four-octet capability when there is one. RFC 6793 §3. */
export function asnOf(open: Open): number {
  for (const capability of open.capabilities) if (capability.capability === 'fourOctetAs') return capability.asn;
  return open.asn;
}

/** Body of an OPEN. @throws WireError with code open; hold time and identifier are judged by `acceptOpen` */
export function readOpen(body: Uint8Array): Open {
  try {
    return readBody(new Reader(body));
  } catch (thrown) {
    if (!(thrown instanceof TruncatedError)) throw thrown;
    throw new WireError('open', 0, 'reset', `open.${thrown.field}`, thrown.message);
  }
}

function readBody(r: Reader): Open {
  const version = r.u8('version');
  if (version !== 4) {
    const supported = Uint8Array.of(0, 4);
    throw new WireError('open', subcodes.open.badVersion, 'reset', 'open.version', `${version}`, supported);
  }
  const asn = r.u16('asn');
  const holdSeconds = r.u16('holdTime');
  const identifier = formatIp(r.bytes(4, 'identifier'));
  return { asn, holdSeconds, identifier, capabilities: readParameters(r) };
}

/** Optional parameters in their plain or extended (RFC 9072) form. */
function readParameters(r: Reader): Capability[] {
  let length = r.u8('parametersLength');
  let extended = false;
  if (length === 255 && r.left > 0 && r.buffer[r.offset] === 255) {
    r.u8('extendedMark');
    length = r.u16('extendedLength');
    extended = true;
  }
  if (length !== r.left) {
    throw new WireError('open', 0, 'reset', 'open.parametersLength', `${length}, ${r.left} octets follow`);
  }
  const capabilities: Capability[] = [];
  while (r.left > 0) {
    const type = r.u8('parameter.type');
    const value = r.sub(extended ? r.u16('parameter.length') : r.u8('parameter.length'), 'parameter.value');
    if (type !== 2) {
      throw new WireError('open', subcodes.open.unsupportedParameter, 'reset', 'open.parameter', `type ${type}`);
    }
    while (value.left > 0) capabilities.push(readCapability(value));
  }
  return capabilities;
}

/** Writes one capabilities parameter, in the extended form (RFC 9072 §2) only when the plain one is too short for it. */
export function writeOpen(w: Writer, open: Open): void {
  w.u8(4);
  w.u16(open.asn);
  w.u16(open.holdSeconds);
  w.bytes(ipBytes(open.identifier));
  const capabilities = new Writer(64);
  for (const capability of open.capabilities) writeCapability(capabilities, capability);
  const { length } = capabilities;
  if (length === 0) {
    w.u8(0);
  } else if (length <= 253) {
    w.u8(length + 2);
    w.u8(2);
    w.u8(length);
  } else {
    w.u8(255);
    w.u8(255);
    w.u16(length + 3);
    w.u8(2);
    w.u16(length);
  }
  w.bytes(capabilities.finish());
}
