import { explain, InputError } from '../base/errors.ts';
import { StoreUnavailableError } from '../datastore/store.ts';
import {
  AddressTakenError,
  ContentionError,
  NoPoolError,
  PoolExhaustedError,
  WriteConflictError,
} from '../ipam/errors.ts';

/** Error codes of the CNI specification, section 2 "Error"; 50 is STATUS's. */
export const cniCodes = {
  version: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  environment: 4,
  io: 5,
  decode: 6,
  config: 7,
  tryAgain: 11,
  unavailable: 50,
  /** From 100 on the codes are the plugin's own. CHECK found something amiss. */
  check: 100,
  /** No pool has a free address for the pod. */
  noAddress: 101,
} as const;

export type CniCode = (typeof cniCodes)[keyof typeof cniCodes];

/** A verb that ends in a CNI error object. `message` names the field and its value; `details` is for the log reader. */
export class CniError extends Error {
  override readonly name = 'CniError';
  constructor(
    readonly code: CniCode,
    message: string,
    readonly details = '',
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** What a verb threw, as the error that the runtime is told. An unreachable datastore is worth trying again. */
export function cniErrorOf(thrown: unknown): CniError {
  if (thrown instanceof CniError) return thrown;
  if (thrown instanceof InputError) return new CniError(cniCodes.config, thrown.message, '', { cause: thrown });
  if (thrown instanceof StoreUnavailableError) {
    return new CniError(cniCodes.tryAgain, 'the datastore does not answer', explain(thrown), { cause: thrown });
  }
  if (thrown instanceof NoPoolError || thrown instanceof PoolExhaustedError) {
    return new CniError(cniCodes.noAddress, thrown.message, '', { cause: thrown });
  }
  // The address that a pod asks for may still be its predecessor's.
  if (thrown instanceof AddressTakenError) {
    return new CniError(cniCodes.tryAgain, thrown.message, '', { cause: thrown });
  }
  if (thrown instanceof ContentionError || thrown instanceof WriteConflictError) {
    return new CniError(cniCodes.tryAgain, explain(thrown), '', { cause: thrown });
  }
  return new CniError(cniCodes.io, explain(thrown), '', { cause: thrown });
}

/** The error object that goes to standard output. */
export function formatError(error: CniError, cniVersion: string): string {
  return `${JSON.stringify({ cniVersion, code: error.code, msg: error.message, details: error.details })}\n`;
}
