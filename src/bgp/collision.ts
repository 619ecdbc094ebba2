import type { Ip } from '../model/address.ts';
import { ipNumber } from '../model/address.ts';

/** What is known of one of two connections with the same peer when an OPEN has been accepted on the newer one. */
export interface Contender {
  readonly initiator: 'us' | 'peer';
  readonly state: 'OpenSent' | 'OpenConfirm' | 'Established';
}

export interface Parties {
  readonly identifier: Ip;
  readonly asn: number;
  readonly peerIdentifier: Ip;
  readonly peerAsn: number;
}

/** Signs that the peer came back from a crash and knows nothing of the established connection. RFC 4724 §5. */
export interface RestartSigns {
  /** Both sides negotiated graceful restart on the established connection. */
  readonly negotiated: boolean;
  /** The new connection began clearly after the old one was established, so it is no race of two openings. */
  readonly later: boolean;
}

/**
 * Which of two connections goes. RFC 4271 §6.8: of two that are not yet established the one stays that the side with
 * the larger identifier opened (equal ones: the larger AS, RFC 6286 §2.3). One in OpenSent counts too: the peer's
 * identifier is known from the other, and waiting would let both sides close a different one.
 *
 * Undecided is what the peer may see in another state than we do, since the messages of two connections arrive in any
 * order: one that is established here, but perhaps not there, and one that we would give up, but that may be
 * established there. Deciding both by ourselves and there would close both. The peer's word counts: a NOTIFICATION on
 * the one, or a KEEPALIVE on the other. One that was established long before stays, unless the peer has restarted.
 */
export function loser(
  older: Contender,
  newer: Contender,
  parties: Parties,
  restart: RestartSigns,
): 'older' | 'newer' | 'undecided' {
  if (older.state === 'Established') {
    if (!restart.later) return 'undecided';
    return restart.negotiated ? 'older' : 'newer';
  }
  if (older.initiator === newer.initiator) return 'older';
  if (newer.initiator !== prevailing(parties)) return 'newer';
  return older.state === 'OpenConfirm' && newer.initiator === 'peer' ? 'undecided' : 'older';
}

/** The side whose connections prevail. */
export function prevailing({ identifier, asn, peerIdentifier, peerAsn }: Parties): 'us' | 'peer' {
  const ours = ipNumber(identifier);
  const theirs = ipNumber(peerIdentifier);
  if (ours !== theirs) return ours > theirs ? 'us' : 'peer';
  return asn > peerAsn ? 'us' : 'peer';
}
