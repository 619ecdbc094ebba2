import type { State } from './fsm.ts';

/** Least interval, in microseconds, that a session not Up announces for its transmissions. RFC 5880 §6.8.3. */
export const slowUs = 1_000_000;

/** The desired min TX interval to announce: slow until the session is Up. RFC 5880 §6.8.3. */
export function desiredMinTx(state: State, configuredUs: number): number {
  return state === 'Up' ? configuredUs : Math.max(configuredUs, slowUs);
}

/**
 * Microseconds between periodic packets before jitter; undefined when the peer wants none.
 * RFC 5880 §6.8.7.
 */
export function transmitInterval(desiredMinTxUs: number, remoteMinRxUs: number): number | undefined {
  return remoteMinRxUs === 0 ? undefined : Math.max(desiredMinTxUs, remoteMinRxUs);
}

/** 75 to 100 % of the interval; at most 90 % with a multiplier of 1. RFC 5880 §6.8.7. @param random from [0, 1) */
export function jittered(intervalUs: number, multiplier: number, random: number): number {
  const most = multiplier === 1 ? 0.9 : 1;
  return intervalUs * (0.75 + (most - 0.75) * random);
}

/** Microseconds of silence after which the session is down, in asynchronous mode. RFC 5880 §6.8.4. */
export function detectionTime(remoteMultiplier: number, requiredMinRxUs: number, remoteMinTxUs: number): number {
  return remoteMultiplier * Math.max(requiredMinRxUs, remoteMinTxUs);
}
