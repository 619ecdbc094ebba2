import { randomBytes } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../base/clock.ts';
import { EnvironmentError, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Store } from '../datastore/store.ts';
import { type Family, familyOf, parseCidr, parseIp } from '../model/address.ts';
import { asNumber } from '../model/bgp.ts';
import { type IpPool, type Node, parseResource, type Spec } from '../model/kinds.ts';
import { apiVersion } from '../model/resource.ts';
import { addressOf, autodetect, candidates, type Interfaces, parseMethod } from './autodetect.ts';
import { booleanOf, type Environment, nodename } from './environment.ts';
import { heedingLock, type Writable } from './heeding-lock.ts';
import { upsert } from './upsert.ts';

export interface StartupDeps {
  readonly store: Store;
  readonly env: Environment;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal?: AbortSignal;
  readonly interfaces?: Interfaces;
}

/**
 * What a node writes before its agents start: its Node resource, and for the first node of a cluster the default
 * pools, ClusterInformation and FelixConfiguration. Any number of nodes may run it at once, any number of times.
 * While the datastore is locked it waits before its first write; a node that has nothing to write starts.
 * @throws InputError, EnvironmentError, StoreUnavailableError
 */
export async function startup(given: StartupDeps): Promise<void> {
  const deps = { ...given, store: heedingLock(given.store, given) };
  const { store, env, log } = deps;
  const name = nodename(env);
  const wanted = poolsFrom(env);
  await writeNode(name, deps);
  await upsert(
    store,
    { type: 'ClusterInformation', name: 'default' },
    (now) => (now ? undefined : clusterInformation(env)),
    deps,
  );
  await upsert(
    store,
    { type: 'FelixConfiguration', name: 'default' },
    (now) => (now ? undefined : felixConfiguration('default', { reportingInterval: '0s', logSeverityScreen: 'Info' })),
    deps,
  );
  // As Calico's node does where etcd is the datastore: what policy lets out to the node is the node's own to filter.
  if (env['DATASTORE_TYPE'] !== 'kubernetes')
    await upsert(
      store,
      { type: 'FelixConfiguration', name: `node.${name}` },
      (now) => (now ? undefined : felixConfiguration(`node.${name}`, { defaultEndpointToHostAction: 'Return' })),
      deps,
    );
  if (wanted.length === 0) return;
  const { entries, invalid } = await store.list('IPPool');
  if (entries.length + invalid.length > 0) return;
  for (const pool of wanted) {
    const { outcome } = await upsert(
      store,
      { type: 'IPPool', name: pool.metadata.name },
      (now) => (now ? undefined : pool),
      deps,
    );
    if (outcome === 'created') log.info({ pool: pool.metadata.name, cidr: pool.spec.cidr }, 'made the default pool');
  }
}

type Deps = Omit<StartupDeps, 'store'> & { readonly store: Writable };

async function writeNode(name: string, deps: Deps): Promise<void> {
  const { store, env, log } = deps;
  const before = await store.get({ type: 'Node', name });
  const ipv4Address = await nodeAddress(4, before?.value.spec.bgp?.ipv4Address, deps);
  const ipv6Address = await nodeAddress(6, before?.value.spec.bgp?.ipv6Address, deps);
  if (ipv4Address === undefined && ipv6Address === undefined)
    throw new EnvironmentError('this node has no address: IP and IP6 are both none', 'set IP or IP6');
  const number = env['AS'] ? asOf(env['AS']) : undefined;
  const { outcome } = await upsert(
    store,
    { type: 'Node', name },
    (current) => {
      const bgp = { ...current?.value.spec.bgp, ...(number === undefined ? {} : { asNumber: number }) };
      const { ipv4Address: _4, ipv6Address: _6, ...others } = bgp;
      const spec = {
        ...current?.value.spec,
        bgp: { ...others, ...(ipv4Address ? { ipv4Address } : {}), ...(ipv6Address ? { ipv6Address } : {}) },
        addresses: addressList(current?.value.spec.addresses, [ipv4Address, ipv6Address]),
        ...orchestratorReferences(current?.value.spec.orchRefs, env['CALICO_K8S_NODE_REF']),
      };
      if (current && isDeepStrictEqual(current.value.spec, spec)) return undefined;
      return parseResource(
        'Node',
        current ? { ...current.value, spec } : { kind: 'Node', apiVersion, metadata: { name }, spec },
      );
    },
    deps,
  );
  log.info({ node: name, ipv4Address, ipv6Address, outcome }, 'the node is in the datastore');
}

/** IP and IP6 as calico/node reads them: `autodetect`, `none`, an address, or nothing (keep what is stored). */
async function nodeAddress(family: Family, stored: string | undefined, deps: Deps): Promise<string | undefined> {
  const field = family === 4 ? 'IP' : 'IP6';
  const text = deps.env[field] ?? '';
  if (text === 'none' || (text === '' && family === 6)) return text === '' ? stored : undefined;
  if (text === '' && stored !== undefined) return stored;
  const interfaces = deps.interfaces ?? networkInterfaces();
  if (text === '' || text === 'autodetect') {
    const method = parseMethod(deps.env[`${field}_AUTODETECTION_METHOD`], `${field}_AUTODETECTION_METHOD`);
    return autodetect(method, family, interfaces);
  }
  const given = withMask(text, family, field, interfaces);
  const address = parseIp(addressOf(given));
  if (!candidates(interfaces, family).some(({ cidr }) => parseIp(addressOf(cidr)) === address))
    deps.log.warn(
      { [field]: given },
      'no device of this host has this address; peers and pods will not reach it there',
    );
  return given;
}

/** The address as given; without a mask it takes that of the device which has it. */
export function withMask(text: string, family: Family, field: string, interfaces: Interfaces): string {
  const canonical = parseCidr(text, field);
  if (familyOf(canonical) !== family) throw new InputError(field, text, `an IPv${family} address`);
  const address = parseIp(text.includes('/') ? addressOf(text) : text, field);
  if (text.includes('/')) return `${address}${text.slice(text.indexOf('/'))}`;
  const own = candidates(interfaces, family).find(({ cidr }) => parseIp(addressOf(cidr)) === address);
  return own?.cidr ?? canonical;
}

type Address = NonNullable<Node['spec']['addresses']>[number];

/** Our addresses, then those of other kinds that stood there. */
function addressList(before: readonly Address[] | undefined, own: readonly (string | undefined)[]): Address[] {
  const ours = own.flatMap((address) => (address ? [{ address, type: 'CalicoNodeIP' }] : []));
  return [...ours, ...(before ?? []).filter(({ type }) => type !== 'CalicoNodeIP')];
}

type Reference = NonNullable<Node['spec']['orchRefs']>[number];

/** By its name in Kubernetes the controllers know when the node is gone; references of others stay. */
function orchestratorReferences(before: readonly Reference[] | undefined, nodeName: string | undefined) {
  if (!nodeName) return {};
  const others = (before ?? []).filter(({ orchestrator }) => orchestrator !== 'k8s');
  return { orchRefs: [{ nodeName, orchestrator: 'k8s' }, ...others] };
}

function asOf(text: string): number {
  const result = asNumber.safeParse(text);
  if (!result.success) throw new InputError('AS', text, 'an AS number from 1 to 4294967295, or asdot such as 1.10');
  return result.data;
}

/** The pools that CALICO_IPV4POOL_… and CALICO_IPV6POOL_… describe. IPv6 has one only when its CIDR is given. */
export function poolsFrom(env: Environment): IpPool[] {
  if (booleanOf(env, 'NO_DEFAULT_POOLS')) return [];
  const cidr4 = env['CALICO_IPV4POOL_CIDR'] || '192.168.0.0/16';
  const cidr6 = env['CALICO_IPV6POOL_CIDR'];
  const pools = cidr4 === 'none' ? [] : [poolFrom(env, 4, cidr4)];
  return cidr6 && cidr6 !== 'none' ? [...pools, poolFrom(env, 6, cidr6)] : pools;
}

function poolFrom(env: Environment, family: Family, cidr: string): IpPool {
  const at = `CALICO_IPV${family}POOL_`;
  const canonical = parseCidr(cidr, `${at}CIDR`);
  if (familyOf(canonical) !== family) throw new InputError(`${at}CIDR`, cidr, `an IPv${family} prefix`);
  const [ipipMode, vxlanMode] = [modeOf(env, `${at}IPIP`), modeOf(env, `${at}VXLAN`)];
  if (ipipMode !== 'Never' && family === 6)
    throw new InputError(`${at}IPIP`, ipipMode, `Never: IPv6 has ${at}VXLAN alone`);
  if (ipipMode !== 'Never' && vxlanMode !== 'Never')
    throw new InputError(`${at}IPIP`, ipipMode, `Never where ${at}VXLAN is ${vxlanMode}`);
  const smallest = family === 4 ? 20 : 116;
  const largest = family === 4 ? 32 : 128;
  const size = env[`${at}BLOCK_SIZE`];
  if (size && !(/^\d+$/.test(size) && Number(size) >= smallest && Number(size) <= largest))
    throw new InputError(`${at}BLOCK_SIZE`, size, `a prefix length from ${smallest} to ${largest}`);
  const spec: Partial<Spec<'IPPool'>> = {
    cidr: canonical,
    ipipMode,
    vxlanMode,
    blockSize: size ? Number(size) : family === 4 ? 26 : 122,
    natOutgoing: booleanOf(env, `${at}NAT_OUTGOING`) ?? family === 4,
    disableBGPExport: booleanOf(env, `${at}DISABLE_BGP_EXPORT`) ?? false,
    nodeSelector: env[`${at}NODE_SELECTOR`] || 'all()',
  };
  return parseResource('IPPool', {
    kind: 'IPPool',
    apiVersion,
    metadata: { name: `default-ipv${family}-ippool` },
    spec,
  });
}

function modeOf(env: Environment, name: string): 'Never' | 'Always' | 'CrossSubnet' {
  const modes = { never: 'Never', off: 'Never', always: 'Always', crosssubnet: 'CrossSubnet' } as const;
  const text = env[name] || 'Never';
  const found = Object.entries(modes).find(([word]) => word === text.toLowerCase());
  if (!found) throw new InputError(name, text, 'Never, Always or CrossSubnet');
  return found[1];
}

function clusterInformation(env: Environment) {
  return parseResource('ClusterInformation', {
    kind: 'ClusterInformation',
    apiVersion,
    metadata: { name: 'default' },
    spec: {
      clusterGUID: randomBytes(16).toString('hex'),
      ...(env['CLUSTER_TYPE'] ? { clusterType: env['CLUSTER_TYPE'] } : {}),
      datastoreReady: true,
    },
  });
}

function felixConfiguration(name: string, spec: object) {
  return parseResource('FelixConfiguration', { kind: 'FelixConfiguration', apiVersion, metadata: { name }, spec });
}
