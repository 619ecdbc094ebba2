import { Reader, TruncatedError, Writer } from '../../base/bytes.ts';
import { type State, states } from './fsm.ts';

/** The mandatory section of a control packet. RFC 5880 §4.1; times in microseconds. */
export interface ControlPacket {
  readonly diagnostic: number;
  readonly state: State;
  readonly poll: boolean;
  readonly final: boolean;
  /** The sender's BFD outlives its control plane. */
  readonly independent: boolean;
  readonly demand: boolean;
  readonly multiplier: number;
  readonly myDiscriminator: number;
  /** 0 while the sender does not know ours. */
  readonly yourDiscriminator: number;
  readonly desiredMinTxUs: number;
  /** 0: send nothing periodically. */
  readonly requiredMinRxUs: number;
  readonly requiredMinEchoRxUs: number;
}

/** Octets of the mandatory section. */
export const packetLength = 24;
const version = 1;
const flag = { poll: 0x20, final: 0x10, independent: 0x08, authentication: 0x04, demand: 0x02, multipoint: 0x01 };

/** A packet that must be discarded. RFC 5880 §6.8.6. */
export class PacketError extends Error {
  override readonly name = 'PacketError';
  constructor(
    readonly field: string,
    detail: string,
  ) {
    super(`${field}: ${detail}`);
  }
}

/**
 * Reads a UDP payload and makes the checks of RFC 5880 §6.8.6 that need no session. Octets past the packet's own
 * length are no part of it.
 * @throws PacketError
 */
export function readPacket(payload: Uint8Array): ControlPacket {
  try {
    return readFields(new Reader(payload), payload.length);
  } catch (thrown) {
    if (thrown instanceof TruncatedError) throw new PacketError(thrown.field, thrown.message);
    throw thrown;
  }
}

function readFields(r: Reader, available: number): ControlPacket {
  const head = r.u8('version');
  if (head >> 5 !== version) throw new PacketError('version', `${head >> 5}`);
  const flags = r.u8('flags');
  const multiplier = r.u8('multiplier');
  const length = r.u8('length');
  if (length < packetLength || length > available) throw new PacketError('length', `${length} of ${available} octets`);
  if (multiplier === 0) throw new PacketError('multiplier', '0');
  if ((flags & flag.multipoint) !== 0) throw new PacketError('flags', 'the multipoint bit is set');
  if ((flags & flag.authentication) !== 0) throw new PacketError('flags', 'authentication is not in use');
  const myDiscriminator = r.u32('myDiscriminator');
  const yourDiscriminator = r.u32('yourDiscriminator');
  const state = states[flags >> 6] ?? 'Down';
  if (myDiscriminator === 0) throw new PacketError('myDiscriminator', '0');
  if (yourDiscriminator === 0 && (state === 'Init' || state === 'Up')) {
    throw new PacketError('yourDiscriminator', `0 in state ${state}`);
  }
  return {
    diagnostic: head & 0x1f,
    state,
    poll: (flags & flag.poll) !== 0,
    final: (flags & flag.final) !== 0,
    independent: (flags & flag.independent) !== 0,
    demand: (flags & flag.demand) !== 0,
    multiplier,
    myDiscriminator,
    yourDiscriminator,
    desiredMinTxUs: r.u32('desiredMinTx'),
    requiredMinRxUs: r.u32('requiredMinRx'),
    requiredMinEchoRxUs: r.u32('requiredMinEchoRx'),
  };
}

/** A packet without authentication section. */
export function writePacket(packet: ControlPacket): Uint8Array {
  const w = new Writer(packetLength);
  w.u8((version << 5) | packet.diagnostic);
  w.u8(
    (states.indexOf(packet.state) << 6) |
      (packet.poll ? flag.poll : 0) |
      (packet.final ? flag.final : 0) |
      (packet.independent ? flag.independent : 0) |
      (packet.demand ? flag.demand : 0),
  );
  w.u8(packet.multiplier);
  w.u8(packetLength);
  w.u32(packet.myDiscriminator);
  w.u32(packet.yourDiscriminator);
  w.u32(packet.desiredMinTxUs);
  w.u32(packet.requiredMinRxUs);
  w.u32(packet.requiredMinEchoRxUs);
  return w.finish();
}
