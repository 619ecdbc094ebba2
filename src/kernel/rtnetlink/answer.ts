import { KernelError } from '../types.ts';
import { NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_ERROR, NLMSGERR_ATTR_MSG } from './constants.ts';
import { errnoName } from './libc.ts';
import { hostI32, hostU32, type Message, readAttributes, text } from './message.ts';

/** NLMSG_ERROR (an acknowledgement when its code is 0) or NLMSG_DONE → what went wrong, if anything. */
export function readError(message: Message, operation: string): KernelError | undefined {
  const code = message.payload.length >= 4 ? hostI32(message.payload, 0) : 0;
  if (code === 0) return undefined;
  return new KernelError(operation, errnoName(-code), extendedText(message));
}

/** The text of the extended acknowledgement (Documentation/userspace-api/netlink/intro.rst). */
function extendedText(message: Message): string | undefined {
  if (!(message.flags & NLM_F_ACK_TLVS)) return undefined;
  let start = 4;
  if (message.type === NLMSG_ERROR) start += message.flags & NLM_F_CAPPED ? 16 : (hostU32(message.payload, 4) + 3) & ~3;
  const found = readAttributes(message.payload, start).get(NLMSGERR_ATTR_MSG);
  return found ? text(found) : undefined;
}
