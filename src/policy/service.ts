import { InputError } from '../base/errors.ts';
import { type Cidr, hostCidr, parseIp } from '../model/address.ts';
import type { EndpointSlice } from '../model/kinds.ts';
import type { LabelMap } from './labels.ts';
import { type EndpointFacts, type PortProtocol, serviceLabel } from './members.ts';

/**
 * A slice as part of the service that it belongs to: all its endpoints, ready or not, as a connection that was made while
 * one was ready goes on. Names of hosts are left out, and ports without a number, which sets cannot hold.
 */
export function serviceEndpointsOf({ metadata, spec }: EndpointSlice): {
  readonly labels: LabelMap;
  readonly facts: EndpointFacts;
} {
  const labels = new Map(spec.service === undefined ? [] : [[serviceLabel, `${metadata.namespace}/${spec.service}`]]);
  const addresses = spec.endpoints.flatMap((endpoint) => endpoint.addresses.flatMap(readable));
  const ports = spec.ports.flatMap(({ name = '', protocol, port }) =>
    port === undefined ? [] : [{ name, protocol: protocol.toLowerCase() as PortProtocol, port }],
  );
  return { labels, facts: { addresses, ports } };
}

function readable(text: string): Cidr[] {
  try {
    return [hostCidr(parseIp(text))];
  } catch (thrown) {
    if (thrown instanceof InputError) return [];
    throw thrown;
  }
}
