import { InputError } from '../base/errors.ts';
import type { Family } from '../model/address.ts';

export const torKinds = ['bird', 'frr', 'none'] as const;
export type TorKind = (typeof torKinds)[number];
/** Encapsulation between nodes: none, VXLAN to every node, VXLAN to nodes of other subnets. */
export const encapChoices = ['none', 'vxlan', 'crosssubnet'] as const;
export type EncapChoice = (typeof encapChoices)[number];
export const familyChoices = ['v4', 'v6', 'dual'] as const;
export type FamilyChoice = (typeof familyChoices)[number];

export interface LabOptions {
  readonly name: string;
  readonly nodes: number;
  /** Per node. */
  readonly pods: number;
  readonly family: FamilyChoice;
  readonly tor: TorKind;
  /** Default `none`. */
  readonly encap?: EncapChoice;
}

/** One address with its mask per family; a family that the lab does not use is absent. */
export type Addresses = { readonly [F in Family]?: string };

export interface Machine {
  /** `n1`, `tor`, `legacy`, `etcd`, `fabric`, or `<namespace>/<pod>`. */
  readonly name: string;
  /** Name of its network namespace. */
  readonly netns: string;
  readonly addresses: Addresses;
}

export interface LabNode extends Machine {
  readonly runDir: string;
  readonly logFile: string;
  readonly pluginDir: string;
}

/** What a demo pod does in the story of the policy. */
export type Role = 'web' | 'client' | 'stranger';

export interface LabPod {
  /** `<namespace>/<pod>`. */
  readonly name: string;
  readonly namespace: string;
  readonly pod: string;
  readonly node: string;
  readonly role: Role;
  readonly netns: string;
  readonly containerId: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface LabPlan {
  readonly name: string;
  readonly stateDir: string;
  readonly families: readonly Family[];
  readonly torKind: TorKind;
  readonly encap: EncapChoice;
  /** Whether nodes speak BGP: not where VXLAN alone carries everything. */
  readonly bgp: boolean;
  /** Holds the bridge; the lab's own process has an address there while it works. */
  readonly fabric: Machine;
  readonly etcd: Machine & { readonly endpoint: string; readonly logFile: string };
  readonly tor: (Machine & { readonly logFile: string }) | undefined;
  /** Behind the ToR, in a network of its own. */
  readonly legacy: Machine | undefined;
  readonly nodes: readonly LabNode[];
  readonly pods: readonly LabPod[];
  /** Where the responders of all pods are controlled. */
  readonly podServer: { readonly socket: string; readonly logFile: string };
}

export const torAs = 64900;
export const nodeAs = 64512;
export const podPools: Addresses = { 4: '10.65.0.0/16', 6: 'fd65::/64' };
/** What the ToR announces: the network of the legacy server. */
export const legacyNetworks: Addresses = { 4: '192.168.90.0/24', 6: 'fd90::/64' };
export const httpPort = 80;
export const udpPort = 5000;
export const echoPort = 7;
export const stateRoot = '/run/margay-lab';

/** Everything a lab's names can begin with belongs to it alone, since lab names hold no dash. */
export function netnsPrefix(lab: string): string {
  return `margay-${lab}-`;
}

/** Where iproute2 mounts a namespace, ip-netns(8). */
export function netnsPath(netns: string): string {
  return `/run/netns/${netns}`;
}

/** Checks what a person asked for. @throws InputError */
export function checkOptions(options: LabOptions): LabOptions {
  checkName(options.name);
  checkCount('--nodes', options.nodes, 1, 20);
  checkCount('--pods', options.pods, 1, 50);
  return options;
}

/** @throws InputError when it cannot name a lab */
export function checkName(name: string): string {
  if (!/^[a-z][a-z0-9]{0,15}$/.test(name))
    throw new InputError('--name', name, 'a letter, then at most 15 letters and digits in lower case');
  return name;
}

function checkCount(option: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most)
    throw new InputError(option, value, `a number from ${least} to ${most}`);
}

/** Names and addresses of every machine of a lab. Pure. */
export function planLab(options: LabOptions): LabPlan {
  const { name, family, tor: torKind, encap = 'none' } = options;
  const families: Family[] = family === 'dual' ? [4, 6] : family === 'v4' ? [4] : [6];
  const stateDir = `${stateRoot}/${name}`;
  const netns = (suffix: string) => `${netnsPrefix(name)}${suffix}`;
  const on = (host: number): Addresses =>
    pick(families, { 4: `172.30.0.${host}/24`, 6: `fd30::${host.toString(16)}/64` });
  const machine = (suffix: string, host: number): Machine => ({
    name: suffix,
    netns: netns(suffix),
    addresses: on(host),
  });
  const nodes = Array.from({ length: options.nodes }, (_, index): LabNode => {
    const node = `n${index + 1}`;
    const runDir = `${stateDir}/${node}`;
    return { ...machine(node, 11 + index), runDir, logFile: `${runDir}/node.log`, pluginDir: `${runDir}/cni-bin` };
  });
  return {
    name,
    stateDir,
    families,
    torKind,
    encap,
    bgp: encap === 'none' || torKind !== 'none',
    fabric: machine('fabric', 3),
    etcd: { ...machine('etcd', 2), endpoint: endpointOf(families), logFile: `${stateDir}/etcd.log` },
    tor: torKind === 'none' ? undefined : { ...machine('tor', 1), logFile: `${stateDir}/tor.log` },
    legacy:
      torKind === 'none'
        ? undefined
        : {
            name: 'legacy',
            netns: netns('legacy'),
            addresses: pick(families, { 4: '192.168.90.10/24', 6: 'fd90::a/64' }),
          },
    nodes,
    pods: nodes.flatMap((node, at) =>
      Array.from({ length: options.pods }, (_, index) => planPod(name, node.name, at + 1, index)),
    ),
    podServer: { socket: `${stateDir}/pods.sock`, logFile: `${stateDir}/pods.log` },
  };
}

/** First pod of a node: a web server; then by turns a client of it and a stranger to it. */
function planPod(lab: string, node: string, nodeNumber: number, index: number): LabPod {
  const role: Role = index % 2 === 0 ? 'web' : (nodeNumber + (index >> 1)) % 2 === 1 ? 'client' : 'stranger';
  const pod = `${role}-${nodeNumber}${index < 2 ? '' : `-${(index >> 1) + 1}`}`;
  return makePod(lab, node, role === 'stranger' ? 'guest' : 'shop', pod, role);
}

/** A pod of a lab by name; its container ID is made of both names. */
export function makePod(lab: string, node: string, namespace: string, pod: string, role: Role): LabPod {
  return {
    name: `${namespace}/${pod}`,
    namespace,
    pod,
    node,
    role,
    netns: `${netnsPrefix(lab)}pod-${namespace}-${pod}`,
    containerId: `${lab}-${namespace}-${pod}`,
    labels: { app: role },
  };
}

function endpointOf(families: readonly Family[]): string {
  return families.includes(4) ? 'http://172.30.0.2:2379' : 'http://[fd30::2]:2379';
}

function pick(families: readonly Family[], all: Required<Addresses>): Addresses {
  return { ...(families.includes(4) ? { 4: all[4] } : {}), ...(families.includes(6) ? { 6: all[6] } : {}) };
}

/** The address without its mask. @throws Error when the machine has none of that family */
export function addressIn(machine: { readonly name: string; readonly addresses: Addresses }, family: Family): string {
  const address = machine.addresses[family];
  if (address === undefined) throw new Error(`${machine.name} has no IPv${family} address`);
  return address.slice(0, address.indexOf('/'));
}
