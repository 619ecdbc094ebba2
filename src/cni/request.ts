import { show } from '../base/errors.ts';
import type { PodFacts } from '../datastore/store.ts';
import type { Ip } from '../model/address.ts';
import {
  type CniVersion,
  fallbackVersion,
  type NetworkConfig,
  parseConfig,
  parseJson,
  parseVersion,
} from './config.ts';
import { CniError, cniCodes } from './error.ts';

/** What the launcher passes on. */
export interface RawRequest {
  /** The CNI_* environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: string;
  /** Whether who asks looks for signs of life until the answer comes. */
  readonly signs?: boolean;
  /** When it was queued, for the log. */
  readonly queuedAt?: string;
}

export interface Pod {
  readonly namespace: string;
  readonly name: string;
}

/** One interface of one container: what ADD, DEL and CHECK are about. */
export interface Attachment {
  readonly containerId: string;
  readonly ifName: string;
  readonly pod?: Pod;
  readonly network: NetworkConfig;
  /** What Kubernetes says of the pod, where it was asked. */
  readonly facts?: {
    readonly namespaceLabels: Readonly<Record<string, string>>;
    readonly ports: PodFacts['ports'];
    readonly annotations: PodFacts['endpointAnnotations'];
    readonly addresses?: readonly Ip[];
    /** Of no pool: IPAM is not asked. */
    readonly bareAddresses?: readonly Ip[];
    readonly mac?: string;
  };
}

export type CniRequest =
  | ({ readonly verb: 'ADD' | 'CHECK'; readonly netns: string; readonly pod: Pod } & Attachment)
  | ({ readonly verb: 'DEL'; readonly netns?: string } & Attachment)
  | { readonly verb: 'GC'; readonly network: NetworkConfig }
  | { readonly verb: 'STATUS'; readonly network: NetworkConfig }
  | { readonly verb: 'VERSION'; readonly cniVersion: string };

/** Keys of CNI_ARGS that are understood; Kubernetes runtimes set them. */
const knownArgs = ['IgnoreUnknown', 'K8S_POD_NAMESPACE', 'K8S_POD_NAME', 'K8S_POD_INFRA_CONTAINER_ID', 'K8S_POD_UID'];

const dnsLabel = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const dnsSubdomain = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** Verb → the version that brought it. CNI specification, "CNI operations". */
const since: Readonly<Record<string, CniVersion>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' };

/**
 * Environment and standard input → a checked request.
 * @throws CniError with the specification's code, naming the variable or field and its value
 */
export function parseRequest({ env, stdin }: RawRequest): CniRequest {
  const verb = env['CNI_COMMAND'];
  switch (verb) {
    case 'VERSION':
      return { verb, cniVersion: versionOf(stdin) };
    case 'ADD':
    case 'CHECK': {
      const network = networkOf(stdin, verb, false);
      const attachment = attachmentOf(env, network);
      return { verb, ...attachment, netns: required(env, 'CNI_NETNS', netnsPath), pod: podOf(env) };
    }
    case 'DEL': {
      const network = networkOf(stdin, verb, true);
      const netns = env['CNI_NETNS'];
      const pod = env['CNI_ARGS']?.includes('K8S_POD_NAME=') ? podOf(env) : undefined;
      return { verb, ...attachmentOf(env, network), ...(netns && { netns }), ...(pod && { pod }) };
    }
    case 'GC':
      return { verb, network: networkOf(stdin, verb, true) };
    case 'STATUS':
      return { verb, network: networkOf(stdin, verb, false) };
    default:
      throw badEnvironment('CNI_COMMAND', verb, 'one of ADD, DEL, CHECK, GC, STATUS, VERSION');
  }
}

/** The cniVersion that an answer repeats: the request's if it has a readable one. */
export function versionOf(stdin: string): string {
  try {
    const version = parseJson(stdin)['cniVersion'];
    return typeof version === 'string' && /^[0-9.]{1,15}$/.test(version) ? version : fallbackVersion;
  } catch (thrown) {
    if (thrown instanceof CniError) return fallbackVersion;
    throw thrown;
  }
}

/** What was checked last: a runtime says the same for one pod after the other. */
let last: { readonly stdin: string; readonly verb: string; readonly network: NetworkConfig } | undefined;

function networkOf(stdin: string, verb: string, lenient: boolean): NetworkConfig {
  if (last?.stdin === stdin && last.verb === verb) return last.network;
  const network = checkedNetwork(stdin, verb, lenient);
  last = { stdin, verb, network };
  return network;
}

function checkedNetwork(stdin: string, verb: string, lenient: boolean): NetworkConfig {
  const value = parseJson(stdin);
  const cniVersion = parseVersion(value['cniVersion']);
  const first = since[verb];
  if (first !== undefined && cniVersion < first) {
    throw new CniError(cniCodes.version, `cniVersion: ${show(cniVersion)}: ${verb} needs ${first} or newer`);
  }
  return parseConfig(value, lenient);
}

function attachmentOf(env: RawRequest['env'], network: NetworkConfig): Attachment {
  const containerId = required(env, 'CNI_CONTAINERID', (text) =>
    /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/.test(text) ? undefined : 'at most 128 letters, digits, `_.-`',
  );
  return { containerId, ifName: required(env, 'CNI_IFNAME', deviceName), network };
}

function podOf(env: RawRequest['env']): Pod {
  const args = parseArgs(env['CNI_ARGS'] ?? '');
  const checked = (key: string, form: RegExp, expected: string): string => {
    const value = args.get(key);
    if (value !== undefined && form.test(value)) return value;
    throw badEnvironment(`CNI_ARGS ${key}`, value, expected);
  };
  return {
    namespace: checked('K8S_POD_NAMESPACE', dnsLabel, 'the name of a namespace (a DNS label)'),
    name: checked('K8S_POD_NAME', dnsSubdomain, 'the name of a pod (a DNS subdomain)'),
  };
}

/** `KEY=value;KEY=value`. Unknown keys are refused unless `IgnoreUnknown=1` stands among them, as libcni does. */
function parseArgs(text: string): ReadonlyMap<string, string> {
  const args = new Map<string, string>();
  for (const pair of text.split(';').filter((part) => part !== '')) {
    const equals = pair.indexOf('=');
    if (equals <= 0) throw badEnvironment('CNI_ARGS', pair, 'KEY=value pairs separated by semicolons');
    args.set(pair.slice(0, equals), pair.slice(equals + 1));
  }
  if (args.has('IP')) throw badEnvironment('CNI_ARGS IP', args.get('IP'), 'none: addresses come from the pools');
  const lenient = /^(1|true|t)$/i.test(args.get('IgnoreUnknown') ?? '');
  for (const [key, value] of args) {
    if (!lenient && !knownArgs.includes(key))
      throw badEnvironment(`CNI_ARGS ${key}`, value, 'a known key, or IgnoreUnknown=1');
  }
  return args;
}

function required(env: RawRequest['env'], name: string, problem: (text: string) => string | undefined): string {
  const value = env[name];
  if (value === undefined || value === '') throw badEnvironment(name, undefined, 'a value');
  const expected = problem(value);
  if (expected !== undefined) throw badEnvironment(name, value, expected);
  return value;
}

function netnsPath(text: string): string | undefined {
  return text.startsWith('/') && text.length < 4096 && !text.includes('\0')
    ? undefined
    : 'the absolute path of a network namespace';
}

/** Kernel `dev_valid_name`: at most 15 characters, no slash, colon or space, not `.` or `..`. */
function deviceName(text: string): string | undefined {
  return /^[^/:\s]{1,15}$/.test(text) && text !== '.' && text !== '..'
    ? undefined
    : 'a device name of at most 15 characters';
}

function badEnvironment(name: string, value: unknown, expected: string): CniError {
  return new CniError(cniCodes.environment, `${name}: ${show(value)}: expected ${expected}`);
}
