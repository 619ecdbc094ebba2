import type { Clock } from '../../base/clock.ts';
import { isLinkLocal } from '../../model/address.ts';
import type { Change } from './fsm.ts';
import { type ControlPacket, PacketError, readPacket } from './packet.ts';
import { Session } from './session.ts';
import type { BfdSender, BfdStatus, BfdTarget, Counter } from './settings.ts';

export interface EngineDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly afterReads: (action: () => void) => void;
  readonly count: (counter: Counter) => void;
  readonly changed: (key: number, status: BfdStatus, change?: Change) => void;
}

interface Entry {
  readonly target: BfdTarget;
  readonly session: Session;
}

/** All sessions of a node, and which of them a packet belongs to. RFC 5880 §6.8.6, RFC 5881 §3, RFC 5883 §3. */
export class Engine {
  readonly #byKey = new Map<number, Entry>();
  readonly #byDiscriminator = new Map<number, Entry>();
  readonly #byAddress = new Map<string, Entry>();

  constructor(private readonly deps: EngineDeps) {}

  /** Starts a session; `send` puts a packet on the wire. The first of two for one address and kind keeps the packets. */
  open(key: number, target: BfdTarget, send: (packet: Uint8Array) => void): void {
    const { clock, random, afterReads, changed } = this.deps;
    const discriminator = this.#discriminator();
    const session = new Session(discriminator, target, {
      clock,
      random,
      afterReads,
      send,
      changed: (status, change) => changed(key, status, change),
    });
    const entry: Entry = { target, session };
    this.#byKey.set(key, entry);
    this.#byDiscriminator.set(discriminator, entry);
    const address = targetKey(target);
    if (!this.#byAddress.has(address)) this.#byAddress.set(address, entry);
    session.start();
  }

  close(key: number): void {
    const entry = this.#byKey.get(key);
    if (!entry) return;
    const { session, target } = entry;
    session.stop();
    this.#byKey.delete(key);
    this.#byDiscriminator.delete(session.discriminator);
    const address = targetKey(target);
    if (this.#byAddress.get(address) === entry) this.#byAddress.delete(address);
  }

  receive(payload: Uint8Array, from: BfdSender, multihop: boolean): void {
    const { count } = this.deps;
    count('received');
    try {
      const packet = readPacket(payload);
      const entry = this.#find(packet, from, multihop);
      if (typeof entry === 'string') count(entry);
      else entry.session.receive(packet);
    } catch (thrown) {
      if (!(thrown instanceof PacketError)) throw thrown;
      count('malformed');
    }
  }

  /** The session that the packet is for, or what is wrong with it. */
  #find({ yourDiscriminator }: ControlPacket, from: BfdSender, multihop: boolean): Entry | Counter {
    const known = yourDiscriminator !== 0;
    const entry = known
      ? this.#byDiscriminator.get(yourDiscriminator)
      : this.#byAddress.get(addressKey(multihop, from));
    if (!entry) return known ? 'unknownDiscriminator' : 'unknownPeer';
    return targetKey(entry.target) === addressKey(multihop, from) ? entry : 'wrongSource';
  }

  /** Random, so that one of an earlier life is not taken for a present one; never zero. RFC 5880 §6.3. */
  #discriminator(): number {
    for (;;) {
      const candidate = 1 + Math.floor(this.deps.random() * 0xfffffffe);
      if (!this.#byDiscriminator.has(candidate)) return candidate;
    }
  }
}

function targetKey({ multihop, address, interface: device }: BfdTarget): string {
  return addressKey(multihop, { address, ...(device && isLinkLocal(address) ? { zone: device } : {}) });
}

function addressKey(multihop: boolean, { address, zone = '' }: BfdSender): string {
  return `${multihop} ${address}%${zone}`;
}
