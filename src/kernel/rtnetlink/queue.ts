import { type Queue, type Shaper, shaperHandle } from '../types.ts';
import { RTM_GETQDISC } from './constants.ts';
import { hostI32, hostU32, type MessageWriter, NetlinkFormatError, readAttributes, text } from './message.ts';
import type { NameOf } from './route.ts';
import type { NetlinkSocket } from './socket.ts';

/* `struct tcmsg`, the TCA_* attributes and those of tbf (linux/rtnetlink.h, pkt_sched.h). */

const tcmsgLength = 20;
const TC_H_ROOT = 0xffffffff;
const TC_LINKLAYER_ETHERNET = 1;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_TBF_PARMS = 1;
const TCA_TBF_RATE64 = 4;
const TCA_TBF_BURST = 6;
/** Nanoseconds in a tick of the packet scheduler, PSCHED_SHIFT. */
const tick = 64;

/** Body of RTM_GETQDISC for all devices. */
export function writeQueueQuery(w: MessageWriter): void {
  writeTcmsg(w, 0, 0, 0);
}

/** Body of RTM_NEWQDISC: a token bucket filter at the root. Rate and burst in octets. tc-tbf(8). */
export function writeShaper(w: MessageWriter, index: number, { rate, burst, limit }: Shaper): void {
  writeTcmsg(w, index, shaperHandle, TC_H_ROOT);
  w.attributeText(TCA_KIND, 'tbf');
  const options = w.nest(TCA_OPTIONS);
  const parameters = w.nest(TCA_TBF_PARMS);
  writeRate(w, rate);
  writeRate(w, 0);
  w.u32(limit);
  w.u32(Math.min(0xffffffff, Math.floor((burst * 1e9) / rate / tick)));
  w.u32(0);
  w.close(parameters);
  w.attributeU32(TCA_TBF_BURST, burst);
  if (rate >= 2 ** 32) {
    const at = w.nest(TCA_TBF_RATE64);
    w.u64(rate);
    w.close(at);
  }
  w.close(options);
}

/** Body of RTM_DELQDISC: what is at the root. */
export function writeShaperRemoval(w: MessageWriter, index: number): void {
  writeTcmsg(w, index, shaperHandle, TC_H_ROOT);
}

/** Payload of RTM_NEWQDISC → what stands at a device's root; undefined for the rest, and for the kernel's own. */
export function readQueue(payload: Uint8Array): (Omit<Queue, 'device'> & { readonly index: number }) | undefined {
  if (payload.length < tcmsgLength) throw new NetlinkFormatError(`queueing discipline of ${payload.length} octets`);
  const [index, handle, parent] = [hostI32(payload, 4), hostU32(payload, 8), hostU32(payload, 12)];
  if (parent !== TC_H_ROOT || handle === 0) return undefined;
  const attributes = readAttributes(payload, tcmsgLength);
  const kind = text(attributes.get(TCA_KIND) ?? new Uint8Array());
  const options = attributes.get(TCA_OPTIONS);
  return { index, handle, kind, ...(kind === 'tbf' && options && readTbf(options)) };
}

function readTbf(options: Uint8Array): { rate: number; burst: number; limit: number } {
  const attributes = readAttributes(options, 0);
  const parameters = attributes.get(TCA_TBF_PARMS);
  if (!parameters || parameters.length < 36) throw new NetlinkFormatError('tbf without parameters');
  const wide = attributes.get(TCA_TBF_RATE64);
  const rate = wide ? hostU64(wide) : hostU32(parameters, 8);
  return { rate, burst: Math.round((hostU32(parameters, 28) * tick * rate) / 1e9), limit: hostU32(parameters, 24) };
}

function hostU64(bytes: Uint8Array): number {
  const [value = 0n] = new BigUint64Array(Uint8Array.from(bytes).buffer);
  return Number(value);
}

function writeTcmsg(w: MessageWriter, index: number, handle: number, parent: number): void {
  w.u32(0);
  w.u32(index);
  w.u32(handle);
  w.u32(parent);
  w.u32(0);
}

/** `struct tc_ratespec` */
function writeRate(w: MessageWriter, rate: number): void {
  w.u8(0);
  w.u8(rate === 0 ? 0 : TC_LINKLAYER_ETHERNET);
  w.u16(0);
  w.u16(0);
  w.u16(0);
  w.u32(Math.min(0xffffffff, rate));
}

/** Every device's queue. @throws KernelError */
export function listQueues(socket: NetlinkSocket, nameOf: NameOf): Queue[] {
  const found = socket.dump({ operation: 'list queues', type: RTM_GETQDISC, body: writeQueueQuery });
  return found.flatMap((payload) => {
    const queue = readQueue(payload);
    const device = queue && nameOf(queue.index);
    if (!queue || device === undefined) return [];
    const { index: _, ...rest } = queue;
    return [{ device, ...rest }];
  });
}
