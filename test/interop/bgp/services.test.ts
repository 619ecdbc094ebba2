import { afterEach, beforeEach, expect, test } from 'vitest';
import { Bird } from '../../support/daemons/bird.ts';
import { Link } from '../../support/daemons/network.ts';
import { NodeProcess, stored } from '../../support/daemons/node.ts';
import { until } from '../../support/wait.ts';

/** A node in the mesh with BIRD, which stands for whoever learns of services. */
let link: Link;
let us: NodeProcess;
let bird: Bird;

beforeEach(() => {
  link = new Link();
  us = new NodeProcess(link, 'us');
  bird = new Bird(link);
});

afterEach(() => link.close());

const configuration = (spec: object) => stored('BGPConfiguration', 'bgpconfigurations', 'default', spec);
const slice = (nodeName: string, ready = true) =>
  stored('EndpointSlice', 'endpointslices', 'shop/web-1', {
    service: 'web',
    addressType: 'IPv4',
    endpoints: [{ addresses: ['10.65.1.5'], nodeName, conditions: { ready } }],
  });
const service = stored('Service', 'services', 'shop/web', {
  clusterIPs: ['10.96.0.5'],
  loadBalancerIPs: ['198.51.100.5'],
  externalTrafficPolicy: 'Local',
});

test('BIRD learns the ranges, and the address of a local service while an endpoint is here', async () => {
  us.change([
    configuration({
      serviceClusterIPs: [{ cidr: '10.96.0.0/16' }, { cidr: 'fd96::/112' }],
      serviceLoadBalancerIPs: [{ cidr: '198.51.100.0/24' }],
      prefixAdvertisements: [{ cidr: '10.96.0.0/16', communities: ['65000:7'] }],
    }),
    service,
    slice('them'),
  ]);
  us.start();
  await bird.start({ asn: 64512, peerAsn: 64512, routes: [] });
  expect(await bird.learnt('10.96.0.0/16')).toContain('BGP.community: (65000,7)\n');
  await bird.learnt('fd96::/112');
  await bird.learnt('198.51.100.0/24');
  expect(await bird.route('10.96.0.5/32')).toBe('');

  us.change([slice('us')]);
  await bird.learnt('10.96.0.5/32');
  await bird.learnt('198.51.100.5/32');
  us.change([slice('us', false)]);
  await bird.forgotten('10.96.0.5/32');
  await bird.forgotten('198.51.100.5/32');
  await bird.learnt('10.96.0.0/16');

  us.change([slice('us')]);
  await bird.learnt('10.96.0.5/32');
  us.change([[service[0], undefined]]);
  await bird.forgotten('10.96.0.5/32');
  us.change([configuration({})]);
  await bird.forgotten('10.96.0.0/16');
  await until(async () => (await peers()).every(({ state, flaps }) => state === 'Established' && flaps === 0), {
    within: 10_000,
    what: 'sessions without a flap',
  });
});

async function peers(): Promise<{ state: string; flaps: number }[]> {
  return ((await us.status('/v1/peers')) as { peers: { state: string; flaps: number }[] }).peers;
}
