import type { Family } from '../model/address.ts';
import { addressIn, type LabPlan, legacyNetworks, nodeAs, torAs } from './plan.ts';

/** bird.conf of the ToR: one eBGP session per node and family, announcing the network of the legacy server. Pure. */
export function birdConfig(
  plan: LabPlan,
  tor: { readonly name: string; readonly addresses: LabPlan['etcd']['addresses'] },
): string {
  const channel = (family: Family) =>
    `ipv${family} { import all; export filter { if source = RTS_DEVICE then accept; reject; }; }`;
  const sessions = plan.families.flatMap((family) =>
    plan.nodes.map(
      (node) => `protocol bgp ${node.name}_v${family} {
  local ${addressIn(tor, family)} as ${torAs};
  neighbor ${addressIn(node, family)} as ${nodeAs};
  connect delay time 1; connect retry time 2; error wait time 1,4;
  graceful restart on;
  ${channel(family)};
}`,
    ),
  );
  return [
    'log stderr all;',
    'router id 172.30.0.1;',
    'protocol device { scan time 10; }',
    `protocol direct { ${plan.families.map((family) => `ipv${family};`).join(' ')} interface "legacy"; }`,
    ...plan.families.map(
      (family) => `protocol kernel kernel${family} { merge paths on; ipv${family} { export all; import none; }; }`,
    ),
    ...sessions,
    '',
  ].join('\n');
}

/** frr.conf (for zebra and bgpd alike) of the same ToR. Pure. */
export function frrConfig(
  plan: LabPlan,
  tor: { readonly name: string; readonly addresses: LabPlan['etcd']['addresses'] },
): string {
  const neighbours = plan.families.flatMap((family) => plan.nodes.map((node) => addressIn(node, family)));
  const families = plan.families.map((family) => {
    const own = plan.nodes.map((node) => `  neighbor ${addressIn(node, family)} activate`);
    const network = `  network ${legacyNetworks[family]}`;
    return [` address-family ipv${family} unicast`, network, ...own, ' exit-address-family'].join('\n');
  });
  return [
    'frr version 8.4',
    'frr defaults datacenter',
    `hostname ${tor.name}`,
    `router bgp ${torAs}`,
    ' bgp router-id 172.30.0.1',
    ' no bgp ebgp-requires-policy',
    ' no bgp default ipv4-unicast',
    ' bgp graceful-restart',
    ...neighbours.flatMap((address) => [
      ` neighbor ${address} remote-as ${nodeAs}`,
      ` neighbor ${address} timers connect 2`,
    ]),
    ...families,
    'exit',
    '',
  ].join('\n');
}
