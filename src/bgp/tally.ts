import { headerLength, type MessageType, messageTypes } from './wire/framing.ts';

/** Messages by type. */
export interface MessageCounts {
  readonly received: Readonly<Record<MessageType, number>>;
  readonly sent: Readonly<Record<MessageType, number>>;
}

const typeNames: ReadonlyMap<number, MessageType> = new Map(
  (Object.keys(messageTypes) as MessageType[]).map((name) => [messageTypes[name], name]),
);

/** Counts what one peer and we have said to each other, over all connections. */
export class MessageTally {
  readonly #received = zeros();
  readonly #sent = zeros();

  received(type: MessageType): void {
    this.#received[type]++;
  }

  /** @param octets one or more whole messages end to end */
  sent(octets: Uint8Array): void {
    for (let at = 0; at + headerLength <= octets.length; ) {
      const type = typeNames.get(octets[at + 18] ?? 0);
      if (type) this.#sent[type]++;
      at += Math.max(headerLength, ((octets[at + 16] ?? 0) << 8) | (octets[at + 17] ?? 0));
    }
  }

  counts(): MessageCounts {
    return { received: { ...this.#received }, sent: { ...this.#sent } };
  }
}

function zeros(): Record<MessageType, number> {
  return { open: 0, update: 0, notification: 0, keepalive: 0, refresh: 0 };
}
