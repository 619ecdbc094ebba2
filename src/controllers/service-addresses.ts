import { createHash } from 'node:crypto';
import { InputError } from '../base/errors.ts';
import { contains, type Family, familyOf, type Ip, parseCidr, parseIp } from '../model/address.ts';
import type { IpPool, Service } from '../model/kinds.ts';
import { parseTextList } from '../model/text-list.ts';
import type { Settings } from './settings.ts';

/* Which addresses of pools a Service of type LoadBalancer is to have. Calico's annotations and rules. Pure. */

const annotation = (name: string) => `projectcalico.org/${name}`;
const asks = ['loadBalancerIPs', 'ipv4pools', 'ipv6pools'].map(annotation);
/** The class of services that are for these pools alone. */
const ourClass = 'calico';

/** An address that a service's handle holds. */
export interface HeldAddress {
  readonly address: Ip;
  readonly handle: string;
}

export interface ServicePlan {
  /** Held ones that stay. */
  readonly keep: readonly Ip[];
  /** Held ones that are no longer meant. */
  readonly release: readonly Ip[];
  /** What is missing. */
  readonly assign:
    | { readonly families: readonly Family[]; readonly addresses?: readonly Ip[]; readonly pools?: readonly string[] }
    | undefined;
}

/** Whether a service gets its addresses here. */
export function isManaged({ metadata, spec }: Service, assignIps: Settings['assignIps']): boolean {
  if (assignIps === undefined || spec.type !== 'LoadBalancer') return false;
  if (spec.loadBalancerClass) return spec.loadBalancerClass === ourClass;
  return assignIps === 'AllServices' || asks.some((name) => metadata.annotations?.[name]);
}

/** `lb-` and the SHA-256 of name, namespace and UID in base64url, without what a name may not have. */
export function handleOf({ metadata }: Service): string {
  const { name, namespace = '', uid = '' } = metadata;
  const digest = createHash('sha256').update(`${name}-${namespace}-${uid}`.toLowerCase()).digest('base64url');
  return `lb-${digest.replaceAll(/[-_.]/g, '')}`;
}

/**
 * What is to become of the addresses of a service that is managed.
 * @param pools all there are
 * @throws InputError naming an annotation
 */
export function planService(service: Service, held: readonly Ip[], pools: readonly IpPool[]): ServicePlan {
  const wishes = wishesOf(service);
  const keep: Ip[] = [];
  for (const address of held)
    if (isMeant(address, wishes, pools) && !keep.some((other) => familyOf(other) === familyOf(address)))
      keep.push(address);
  const release = held.filter((address) => !keep.includes(address));
  const families = wishes.families.filter((family) => !keep.some((address) => familyOf(address) === family));
  if (families.length === 0) return { keep, release, assign: undefined };
  const addresses = wishes.addresses?.filter((address) => families.includes(familyOf(address)));
  const named = families.flatMap((family) => wishes.pools[family] ?? []);
  return {
    keep,
    release,
    assign: { families, ...(addresses && { addresses }), ...(named.length > 0 && { pools: named }) },
  };
}

interface Wishes {
  readonly families: readonly Family[];
  readonly addresses?: readonly Ip[];
  readonly pools: Partial<Readonly<Record<Family, readonly string[]>>>;
}

function wishesOf({ metadata, spec }: Service): Wishes {
  const given = (name: string) => {
    const text = metadata.annotations?.[annotation(name)];
    const field = `Service(${metadata.namespace}/${metadata.name}).metadata.annotations.${annotation(name)}`;
    return text ? { field, text, list: parseTextList(field, text) } : undefined;
  };
  const wanted = given('loadBalancerIPs');
  if (wanted) {
    const addresses = wanted.list.map((text) => parseIp(text, wanted.field));
    const families = [...new Set(addresses.map(familyOf))];
    if (addresses.length === 0 || families.length < addresses.length)
      throw new InputError(wanted.field, wanted.text, 'one address, or one of each family');
    return { families, addresses, pools: {} };
  }
  const [four, six] = [given('ipv4pools')?.list, given('ipv6pools')?.list];
  const families = [...new Set(spec.clusterIPs.map((text) => familyOf(parseIp(text))))];
  return {
    families: families.length > 0 ? families : [4],
    pools: { ...(four?.length && { 4: four }), ...(six?.length && { 6: six }) },
  };
}

/** Whether an address that a service has is one that it may have still. */
function isMeant(address: Ip, { families, addresses, pools: named }: Wishes, pools: readonly IpPool[]): boolean {
  const family = familyOf(address);
  if (addresses) return addresses.includes(address);
  if (!families.includes(family)) return false;
  const covering = pools.filter(({ spec }) => contains(parseCidr(spec.cidr), address));
  const wanted = named[family];
  if (wanted === undefined) return covering.every(({ spec }) => spec.assignmentMode === 'Automatic');
  return covering.some(({ metadata, spec }) => wanted.includes(metadata.name) || wanted.includes(spec.cidr));
}
