import { setImmediate } from 'node:timers/promises';
import { type Ip, ipFromNumber } from '../../src/model/address.ts';
import { type Kind, parseResource, type ResourceOf } from '../../src/model/kinds.ts';
import { apiVersion } from '../../src/model/resource.ts';
import { type Agent, node } from '../felix/agent.ts';
import type { Space } from '../felix/space.ts';

/*
 * A cluster as operators have it: a thousand namespaces of ten pods, each pod isolated by a policy of its own that lets
 * in one neighbour, and in every tenth case the monitoring of all namespaces. The pods of the first twenty run here.
 */

export const size = { namespaces: 1000, podsEach: 10, localNamespaces: 20 } as const;
export const pods = size.namespaces * size.podsEach;
export const localPods = size.localNamespaces * size.podsEach;
const hostMac = 'ee:ee:ee:ee:ee:ee';

function resource<K extends Kind>(kind: K, metadata: object, spec: object): ResourceOf<K> {
  return parseResource(kind, { kind, apiVersion, metadata, spec });
}

export function namespaceOf(at: number): string {
  return `team-${Math.floor(at / size.podsEach)}`;
}

export function addressOf(at: number): Ip {
  return ipFromNumber(0x0a410000n + BigInt(at), 4);
}

export function isLocal(at: number): boolean {
  return at < localPods;
}

function ownerOf(at: number): string {
  return isLocal(at) ? node : `n${2 + (Math.floor(at / size.podsEach) % 999)}`;
}

export function podKey(at: number) {
  return { type: 'WorkloadEndpoint', namespace: namespaceOf(at), name: `${ownerOf(at)}-k8s-pod--${at}-eth0` } as const;
}

/** @param labels beside `app` and, for the local ones, `here` */
export function podOf(at: number, labels: Readonly<Record<string, string>> = {}): ResourceOf<'WorkloadEndpoint'> {
  const { namespace, name } = podKey(at);
  const app = `app-${at % size.podsEach}`;
  return resource(
    'WorkloadEndpoint',
    { name, namespace, labels: { app, ...(isLocal(at) && { here: 'yes' }), ...labels } },
    {
      ...{ orchestrator: 'k8s', node: ownerOf(at), pod: `pod-${at}`, endpoint: 'eth0' },
      ...{ ipNetworks: [`${addressOf(at)}/32`], interfaceName: `cali${at}`, profiles: [`kns.${namespace}`] },
    },
  );
}

function policyOf(at: number): ResourceOf<'NetworkPolicy'> {
  const k8s = "projectcalico.org/orchestrator == 'k8s'";
  const from = (app: number) => `${k8s} && app == 'app-${app % size.podsEach}'`;
  const monitored = { selector: `${k8s} && role == 'monitor'`, namespaceSelector: 'all()' };
  const ports = [80, 443, '8000:8010'];
  const ingress = [
    { action: 'Allow', protocol: 'TCP', source: { selector: from(at + 1) }, destination: { ports } },
    ...(at % 10 === 0 ? [{ action: 'Allow', protocol: 'TCP', source: monitored, destination: { ports: [9100] } }] : []),
  ];
  return resource(
    'NetworkPolicy',
    { name: `knp.default.allow-${at}`, namespace: namespaceOf(at) },
    { order: 1000, selector: from(at), types: ['Ingress'], ingress },
  );
}

/** Puts the whole cluster into the agent's store, and the devices of the local pods into its namespace. */
export async function furnish({ put, netlink }: Agent, space: Space): Promise<void> {
  for (let at = 0; at < size.namespaces; at++) {
    const name = `kns.team-${at}`;
    const allow = [{ action: 'Allow' }];
    const labelsToApply = { 'pcns.team': `team-${at}`, 'pcns.projectcalico.org/name': `team-${at}` };
    await put(
      { type: 'Profile', name },
      resource('Profile', { name }, { ingress: allow, egress: allow, labelsToApply }),
    );
  }
  for (let at = 0; at < pods; at++) {
    if (at % 500 === 0) await setImmediate();
    const labels: Record<string, string> = at === pods - 1 ? { role: 'monitor' } : {};
    await put(podKey(at), podOf(at, labels));
    const policy = policyOf(at);
    const { namespace = '', name } = policy.metadata;
    await put({ type: 'NetworkPolicy', namespace, name }, policy);
    if (!isLocal(at)) continue;
    netlink.addVeth({ hostName: `cali${at}`, podName: `pod${at}`, netns: space.path, mtu: 1500, hostMac });
    netlink.setLink(`pod${at}`, { up: true });
  }
}
