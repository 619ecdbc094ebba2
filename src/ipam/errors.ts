import type { Write } from '../datastore/store.ts';
import type { Family, Ip } from '../model/address.ts';

/** Every pool that may be used is full. */
export class PoolExhaustedError extends Error {
  override readonly name = 'PoolExhaustedError';
  constructor(
    readonly family: Family,
    /** Names of the pools that were tried. */
    readonly pools: readonly string[],
    /** Why no further block could be had, when it was not for lack of addresses. */
    readonly reason?: string,
  ) {
    super(`no free IPv${family} address in ${pools.join(', ')}${reason === undefined ? '' : `: ${reason}`}`);
  }
}

/** No pool may be used at all; the message says why for each. */
export class NoPoolError extends Error {
  override readonly name = 'NoPoolError';
  constructor(
    readonly family: Family,
    readonly reasons: readonly string[],
  ) {
    super(`no IPv${family} pool can be used${reasons.length === 0 ? ': none exists' : `: ${reasons.join('; ')}`}`);
  }
}

/** An address that was asked for by name is not to be had. */
export class AddressTakenError extends Error {
  override readonly name = 'AddressTakenError';
  constructor(
    readonly address: Ip,
    readonly reason: string,
  ) {
    super(`${address} cannot be given: ${reason}`);
  }
}

/** One of the caller's own writes in the transaction no longer fits what is stored; nothing was written. */
export class WriteConflictError extends Error {
  override readonly name = 'WriteConflictError';
  constructor(readonly write: Write) {
    super(`the ${write.op} of a ${write.key.type} came too late: it was changed in between`);
  }
}

/** A release that names who holds the address, and somebody else does. */
export class HolderMismatchError extends Error {
  override readonly name = 'HolderMismatchError';
}

/** Others kept changing what was to be written. */
export class ContentionError extends Error {
  override readonly name = 'ContentionError';
}
