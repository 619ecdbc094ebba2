import { InputError } from '../base/errors.ts';
import { contains, type Family, familyOf, type Ip, parseCidr, parseIp } from '../model/address.ts';
import { parseTextList } from '../model/text-list.ts';

/*
 * What a pod's annotations, or its namespace's, ask of addresses: Calico's names and forms. Pods write these, so each is
 * checked, and one that is not understood fails the pod's ADD with the annotation's name.
 */

type Annotations = Readonly<Record<string, string>>;

export interface AddressWishes {
  /** These very addresses, at most one of each family. */
  readonly addresses?: readonly Ip[];
  /** Names or prefixes of pools, by the family that they are named for. */
  readonly pools: Partial<Readonly<Record<Family, readonly string[]>>>;
  /** These, whatever IPAM says (`ipAddrsNoIpam`), at most one of each family. */
  readonly bareAddresses?: readonly Ip[];
  readonly families?: readonly Family[];
  /** Of the device in the pod. */
  readonly mac?: string;
}

export interface Annotated {
  /** `shop/cart` */
  readonly name: string;
  readonly pod: Annotations;
  readonly namespace: Annotations;
  /** Whether pods may name addresses past IPAM (`feature_control.ip_addrs_no_ipam`); default not. */
  readonly bare?: boolean;
}

const prefix = 'cni.projectcalico.org/';

/** Of Calico's annotations, those whose features are not offered. */
const refused: Readonly<Record<string, string>> = {
  floatingIPs: 'none: no other addresses lead to a pod',
};

const familyNames: Readonly<Record<string, Family>> = { IPv4: 4, IPv6: 6 };

/** @throws InputError naming the annotation, `Pod(shop/cart).metadata.annotations.cni.projectcalico.org/ipAddrs` */
export function addressWishes({ name, pod, namespace, bare = false }: Annotated): AddressWishes {
  const ofPod = (key: string) => found(pod, key, `Pod(${name})`);
  const either = (key: string) => ofPod(key) ?? found(namespace, key, `Namespace(${name.split('/')[0]})`);
  for (const [key, expected] of Object.entries(refused)) {
    const given = ofPod(key);
    if (given) throw new InputError(given.field, given.text, expected);
  }
  const addresses = addressesOf(ofPod('ipAddrs'));
  const bareAddresses = bareAddressesOf(ofPod('ipAddrsNoIpam'), bare, addresses !== undefined);
  const [four, six] = [poolsOf(either('ipv4pools')), poolsOf(either('ipv6pools'))];
  const families = (addresses ?? bareAddresses)?.map(familyOf) ?? familiesOf(either('ipFamilies'));
  const mac = macOf(ofPod('hwAddr'));
  return {
    pools: { ...(four && { 4: four }), ...(six && { 6: six }) },
    ...(addresses && { addresses }),
    ...(bareAddresses && { bareAddresses }),
    ...(families && { families }),
    ...(mac !== undefined && { mac }),
  };
}

interface Given {
  readonly field: string;
  readonly text: string;
}

function found(annotations: Annotations, key: string, where: string): Given | undefined {
  const text = annotations[prefix + key];
  return text === undefined || text.trim() === ''
    ? undefined
    : { field: `${where}.metadata.annotations.${prefix}${key}`, text };
}

function addressesOf(given: Given | undefined): Ip[] | undefined {
  if (given === undefined) return undefined;
  const addresses = parseTextList(given.field, given.text).map((text) => parseIp(text, given.field));
  const families = new Set(addresses.map(familyOf));
  if (addresses.length > 0 && families.size === addresses.length) return addresses;
  throw new InputError(given.field, given.text, 'one address, or one of each family');
}

/**
 * What no pod may have: this network, loopback, link-local (its gateway among them), multicast, reserved, IPv4 in IPv6.
 * RFC 6890 §2.2.
 */
const nobodys = [
  ...['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3'],
  ...['::/127', '::ffff:0:0/96', 'fe80::/10', 'ff00::/8'],
].map((text) => parseCidr(text));

function bareAddressesOf(given: Given | undefined, allowed: boolean, others: boolean): Ip[] | undefined {
  if (given === undefined) return undefined;
  const { field, text } = given;
  if (!allowed)
    throw new InputError(
      field,
      text,
      'none, as feature_control.ip_addrs_no_ipam of the network configuration is not true',
    );
  if (others) throw new InputError(field, text, 'none beside ipAddrs');
  const addresses = addressesOf(given);
  const wrong = addresses?.find((address) => nobodys.some((range) => contains(range, address)));
  if (wrong !== undefined) throw new InputError(field, wrong, 'an address that a pod can have');
  return addresses;
}

/** An empty list names none, as if it were not there. */
function poolsOf(given: Given | undefined): string[] | undefined {
  if (given === undefined) return undefined;
  const names = parseTextList(given.field, given.text);
  return names.length > 0 ? names : undefined;
}

function familiesOf(given: Given | undefined): Family[] | undefined {
  if (given === undefined) return undefined;
  const families = parseTextList(given.field, given.text).map((text) => {
    const family = Object.hasOwn(familyNames, text) ? familyNames[text] : undefined;
    if (family === undefined) throw new InputError(given.field, text, 'IPv4 or IPv6');
    return family;
  });
  if (families.length > 0) return [...new Set(families)].sort();
  throw new InputError(given.field, given.text, '["IPv4"], ["IPv6"] or both');
}

/** Unicast (IEEE 802 §8.2), and not all zeros. */
function macOf(given: Given | undefined): string | undefined {
  if (given === undefined) return undefined;
  const text = given.text.trim().toLowerCase();
  const first = /^([0-9a-f]{2})(:[0-9a-f]{2}){5}$/.exec(text)?.[1];
  if (first !== undefined && (Number.parseInt(first, 16) & 1) === 0 && !/^[0:]+$/.test(text)) return text;
  throw new InputError(given.field, given.text, 'a unicast MAC address such as 66:0a:0b:0c:0d:0e');
}
