import { InputError, show } from '../base/errors.ts';
import { type Ip, parseIp } from '../model/address.ts';
import type { AddRequest } from './add.ts';
import type { PreviousResult } from './config.ts';
import { type CniContext, placeOf } from './context.ts';
import { addressesOf } from './endpoint.ts';
import { CniError, cniCodes } from './error.ts';
import { faults } from './veth.ts';

/*
 * CHECK: whether everything still stands as ADD left it: endpoint, addresses in IPAM, devices, routes, and that all of
 * it is what the runtime was told.
 */

/** @throws CniError with code 100, all that is wrong in its message; 7 without a usable prevResult */
export async function check(context: CniContext, request: AddRequest): Promise<void> {
  const { containerId, network, ifName, netns } = request;
  const told = parsePrevious(network.prevResult, ifName);
  const place = placeOf(context, request.pod, containerId, network.name, ifName);
  const [stored, held] = await Promise.all([context.store.get(place.key), context.ipam.byHandle(place.handle)]);
  if (stored === undefined) throw failed([`WorkloadEndpoint ${place.key.name} is missing`]);
  const { spec } = stored.value;
  if (spec.containerID !== containerId) {
    throw failed([`WorkloadEndpoint ${place.key.name} belongs to container ${show(spec.containerID)}`]);
  }
  const addresses = addressesOf(stored.value);
  const found: string[] = [];
  for (const address of told) {
    if (!addresses.includes(address)) found.push(`address ${address} of prevResult is not the endpoint's`);
  }
  for (const address of addresses) {
    if (!told.includes(address)) found.push(`address ${address} of the endpoint is not in prevResult`);
    if (!held.some((assignment) => assignment.address === address)) {
      found.push(`address ${address} is not assigned to handle ${place.handle}`);
    }
  }
  const pod = context.openPod(netns);
  try {
    const plan = { hostDevice: place.hostDevice, ifName, netns, mtu: context.config.mtu, mac: spec.mac ?? '' };
    found.push(...faults(context.netlink, pod, plan, addresses));
  } finally {
    pod.close();
  }
  if (found.length > 0) throw failed(found);
}

function failed(found: readonly string[]): CniError {
  return new CniError(cniCodes.check, found.join('; '));
}

/** Addresses of a previous result that are on our device, or on none that it names. @throws CniError with code 7 */
export function parsePrevious(value: PreviousResult | undefined, ifName: string): Ip[] {
  if (value?.ips === undefined) throw config('prevResult', value, 'the result of ADD');
  const { interfaces = [] } = value;
  return value.ips.flatMap((entry, index) => {
    const { address, interface: at } = fieldsOf(entry) as { address?: unknown; interface?: unknown };
    const field = `prevResult.ips[${index}].address`;
    if (typeof address !== 'string') throw config(field, address, 'an address with its prefix length');
    const device = typeof at === 'number' ? fieldsOf(interfaces[at])['name'] : undefined;
    if (device !== undefined && device !== ifName) return [];
    try {
      return [parseIp(address.split('/')[0] ?? '', field)];
    } catch (thrown) {
      if (thrown instanceof InputError) throw config(field, address, 'an address with its prefix length');
      throw thrown;
    }
  });
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function config(field: string, value: unknown, expected: string): CniError {
  return new CniError(cniCodes.config, `${field}: ${show(value)}: expected ${expected}`);
}
