/** NOTIFICATION error codes. RFC 4271 §4.5, RFC 7313 §5, RFC 9687 §3. */
export const errorCodes = {
  header: 1,
  open: 2,
  update: 3,
  hold: 4,
  fsm: 5,
  cease: 6,
  refresh: 7,
  sendHold: 8,
} as const;

export type ErrorCodeName = keyof typeof errorCodes;

/** Subcodes by error code. RFC 4271 §4.5, RFC 6608 (fsm), RFC 4486 and 9384 (cease), RFC 5492 (open 7). */
export const subcodes = {
  header: { notSynchronized: 1, badLength: 2, badType: 3 },
  open: { badVersion: 1, badPeerAs: 2, badIdentifier: 3, unsupportedParameter: 4, badHoldTime: 6, badCapability: 7 },
  update: {
    malformedAttributes: 1,
    unrecognizedWellKnown: 2,
    missingWellKnown: 3,
    attributeFlags: 4,
    attributeLength: 5,
    badOrigin: 6,
    badNextHop: 8,
    optionalAttribute: 9,
    badNetwork: 10,
    malformedAsPath: 11,
  },
  hold: {},
  fsm: { openSent: 1, openConfirm: 2, established: 3 },
  cease: {
    maxPrefixes: 1,
    shutdown: 2,
    deconfigured: 3,
    reset: 4,
    rejected: 5,
    configChange: 6,
    collision: 7,
    resources: 8,
    hardReset: 9,
    bfdDown: 10,
  },
  refresh: { badLength: 1 },
  sendHold: {},
} as const;

/** What an error in a message leads to. RFC 7606 §2, strongest first. */
export type Remedy = 'reset' | 'withdraw' | 'discard';

/** Bytes from a peer that break the protocol. */
export class WireError extends Error {
  override readonly name = 'WireError';
  /**
   * @param code the NOTIFICATION's error code, and its `subcode` (0: unspecific)
   * @param field the part of the message, for example `open.holdTime`
   * @param data octets that the NOTIFICATION carries
   */
  constructor(
    readonly code: ErrorCodeName,
    readonly subcode: number,
    readonly remedy: Remedy,
    readonly field: string,
    detail: string,
    readonly data: Uint8Array = new Uint8Array(0),
  ) {
    super(`${field}: ${detail}`);
  }
}

/** The stronger of two remedies. RFC 7606 §3 (h). */
export function stronger(a: Remedy, b: Remedy): Remedy {
  if (a === 'reset' || b === 'reset') return 'reset';
  return a === 'withdraw' || b === 'withdraw' ? 'withdraw' : 'discard';
}
