import { MessageWriter } from './message.ts';

/** What a socket writes its messages into, and reads the kernel's into. */
export interface Room {
  readonly writer: MessageWriter;
  readonly datagram: Uint8Array;
}

/** The kernel makes dump datagrams of at most 32 KiB; a single message may exceed that. */
const datagramSize = 256 * 1024;

/**
 * Room of sockets that are closed. A pod's start opens one in its namespace for a few milliseconds; a third of a
 * megabyte made for each would be zeroed by the kernel and has V8 collect garbage every hundred pods.
 */
const spare: Room[] = [];
const mostSpare = 4;

/** Room for one socket, with what another left in it. */
export function takeRoom(): Room {
  return spare.pop() ?? { writer: new MessageWriter(64 * 1024), datagram: new Uint8Array(datagramSize) };
}

/** The next socket may have it: whoever gives it back must not look at it any more. */
export function giveBack(room: Room): void {
  if (spare.length < mostSpare) spare.push(room);
}
