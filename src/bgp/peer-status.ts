import type { Family } from '../model/address.ts';
import type { BfdStatus } from './bfd/settings.ts';
import type { Ending, State } from './fsm.ts';
import type { Negotiated } from './negotiate.ts';
import type { PeerConfig } from './settings.ts';
import type { MessageCounts } from './tally.ts';

/** The last time something went wrong, for the operator. */
export interface LastError {
  readonly by: Ending['by'];
  readonly reason: string;
  readonly at: string;
}

export interface PeerStatus {
  readonly name: string;
  readonly role: PeerConfig['role'];
  readonly address: string;
  readonly port: number;
  readonly asn: number;
  /** The listen range that the peer came out of. */
  readonly range?: string;
  readonly interface?: string;
  readonly state: State;
  /** Wall clock of the last change of state. */
  readonly since: string;
  readonly uptimeSeconds?: number;
  readonly flaps: number;
  readonly negotiated?: Negotiated;
  readonly families: Readonly<Record<string, FamilyCounts>>;
  readonly faults: Readonly<Record<string, number>>;
  readonly rejected: Readonly<Record<string, number>>;
  readonly lastError?: LastError;
  /** How the last session ended; later attempts may have failed for other reasons. */
  readonly sessionEnd?: LastError;
  readonly bfd?: BfdStatus;
  /** By message type, over all sessions. */
  readonly messages: MessageCounts;
  /** Refused routes that `received` and `why` can show. */
  readonly remembered: number;
}

/** What an operator may ask for. */
export interface Reset {
  readonly soft: boolean;
  readonly message?: string;
}

export interface ResetOutcome {
  readonly peer: string;
  /** `restarted`: there was no session, the next attempt begins at once; `none`: no session to refresh. */
  readonly reset: 'hard' | 'soft' | 'restarted' | 'none';
  /** Families whose routes the peer was asked to tell again. */
  readonly refreshAsked: readonly Family[];
}

export interface FamilyCounts {
  /** Prefixes announced and withdrawn by the peer since the session began. */
  readonly received: number;
  readonly withdrawn: number;
  /** Routes kept, of which stale. */
  readonly accepted: number;
  readonly stale: number;
  /** Of them those that are the best of their prefix. */
  readonly preferred: number;
  readonly advertised: number;
  readonly endOfRib: boolean;
}

/** The configured part of a status. */
export function describedPeer(config: PeerConfig) {
  const { name, role, address, port, asn, range, interface: device } = config;
  return { name, role, address, port, asn, ...(range ? { range } : {}), ...(device ? { interface: device } : {}) };
}
