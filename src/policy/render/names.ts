import { createHash, hash } from 'node:crypto';
import type { Family } from '../../model/address.ts';
import type { EndpointPolicy } from '../ir.ts';

/** XT_EXTENSION_MAXNAMELEN leaves 28 characters for a chain. */
const maxChain = 28;
/** IPSET_MAXNAMELEN is 32 with the final NUL. */
const maxSet = 31;

/** Bits of the packet mark: the packet is accepted; the rest of the tier is passed over. */
export const acceptMark = '0x10000/0x10000';
export const passMark = '0x20000/0x20000';
/** The value of a mark condition that holds when the pass bit is clear. */
export const notPassed = '0x0/0x20000';

export const chains = {
  forward: 'cali-FORWARD',
  input: 'cali-INPUT',
  output: 'cali-OUTPUT',
  workloadToHost: 'cali-wl-to-host',
  fromDispatch: 'cali-from-wl-dispatch',
  toDispatch: 'cali-to-wl-dispatch',
  fromHost: 'cali-from-host-endpoint',
  toHost: 'cali-to-host-endpoint',
  fromHostForward: 'cali-from-hep-forward',
  toHostForward: 'cali-to-hep-forward',
  failsafeIn: 'cali-failsafe-in',
  failsafeOut: 'cali-failsafe-out',
  /** Reached by goto: sets the mark, and its end returns to whoever called the chain that went here. */
  accept: 'cali-set-accept',
  pass: 'cali-set-pass',
} as const;

/** Chain prefixes by direction as the workload sees it: egress comes from it, ingress goes to it. */
export const prefixes = {
  ingress: { endpoint: 'cali-tw-', policy: 'cali-pi-', profile: 'cali-pri-', staged: 'cali-si-' },
  egress: { endpoint: 'cali-fw-', policy: 'cali-po-', profile: 'cali-pro-', staged: 'cali-so-' },
} as const;

/** Of host endpoints, by direction as the host sees it. */
export const hostPrefixes = {
  ingress: { endpoint: 'cali-fh-', forward: 'cali-fhfw-' },
  egress: { endpoint: 'cali-th-', forward: 'cali-thfw-' },
} as const;

/** `prefix` + `name`, or `prefix` + `_` + a hash of the name where that would be too long for the kernel. */
export function chainName(prefix: string, name: string): string {
  return prefix + shortened(name, maxChain - prefix.length);
}

type Subject = Pick<EndpointPolicy, 'tiers' | 'profiles'>;

const named = { ingress: new WeakMap<Subject, string>(), egress: new WeakMap<Subject, string>() };

/**
 * The chain of a pod in one direction: named for the policies and profiles that it is subject to there, so that all
 * pods with the same have one chain.
 */
export function endpointChainName(subject: Subject, direction: 'ingress' | 'egress'): string {
  const known = named[direction].get(subject);
  if (known !== undefined) return known;
  const { tiers, profiles } = subject;
  const asked = tiers.flatMap(({ tier, defaultAction, staged, ...policies }) =>
    policies[direction].length > 0 || (staged?.[direction].length ?? 0) > 0
      ? [[tier, defaultAction, policies[direction], staged?.[direction] ?? []]]
      : [],
  );
  const name =
    prefixes[direction].endpoint + hash('sha256', JSON.stringify([asked, profiles]), 'base64url').slice(0, 16);
  named[direction].set(subject, name);
  return name;
}

/** The name, or `_` + a hash of it where it would be longer. */
export function shortened(name: string, longest: number): string {
  if (name.length <= longest) return name;
  return `_${createHash('sha256')
    .update(name)
    .digest('base64url')
    .slice(0, longest - 1)}`;
}

/** The kernel's name of a set in one family. */
export function setName(id: string, family: Family): string {
  return `cali${family}0${id}`.slice(0, maxSet);
}
