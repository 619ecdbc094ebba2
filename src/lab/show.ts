import type { PeerStatus } from '../bgp/peer.ts';
import { countsOf } from '../cli/local.ts';
import { formatTable } from '../cli/output.ts';
import { type Addresses, type LabPlan, nodeAs, torAs } from './plan.ts';
import type { Lab } from './up.ts';

/** The lab as a picture of text. */
export function drawTopology({ plan, addresses }: Lab): string[] {
  const lines: string[] = [];
  if (plan.legacy && plan.tor) {
    lines.push(`  legacy server  ${both(plan.legacy.addresses)}`);
    lines.push('       │');
    lines.push(`  ToR (${plan.torKind})  AS ${torAs}  ${both(plan.tor.addresses)}`);
    lines.push('       │ eBGP to every node');
  }
  lines.push(`  ═════╪═══════════ fabric ════════════  etcd ${both(plan.etcd.addresses)}`);
  plan.nodes.forEach((node, index) => {
    const last = index === plan.nodes.length - 1;
    lines.push(`       ${last ? '└' : '├'}─ ${node.name}  AS ${nodeAs}  ${both(node.addresses)}`);
    const pods = plan.pods.filter((pod) => pod.node === node.name);
    pods.forEach((pod, at) => {
      const own = addresses.get(pod.name);
      const text = plan.families.map((family) => own?.[family] ?? '?').join('  ');
      lines.push(`       ${last ? ' ' : '│'}   ${at === pods.length - 1 ? '└' : '├'}─ ${pod.name.padEnd(18)} ${text}`);
    });
  });
  return lines;
}

function both(addresses: Addresses): string {
  return Object.values(addresses).join('  ');
}

/** Every node's sessions in one table. */
export function sessionTable(plan: LabPlan, peers: readonly (readonly PeerStatus[])[]): string {
  const rows = plan.nodes.flatMap((node, index) =>
    (peers[index] ?? []).map((peer) => {
      const { accepted, advertised } = countsOf(peer);
      return [node.name, peer.name, peer.address, String(peer.asn), peer.state, String(accepted), String(advertised)];
    }),
  );
  return formatTable({ columns: ['node', 'peer', 'address', 'asn', 'state', 'accepted', 'advertised'], rows });
}

/** What a person can do with a lab that stands. */
export function hints(plan: LabPlan): string[] {
  const name = plan.name === 'lab' ? '' : ` --name ${plan.name}`;
  const lab = `npm run lab --${name}`;
  const [pod] = plan.pods;
  const lines: [string, string][] = [
    [`${lab} ctl status --node n1`, 'the agents of a node'],
    plan.bgp
      ? [`${lab} ctl get bgp routes --node n2`, 'what BGP carried there']
      : [`${lab} ctl get routes --node n2`, 'the routes there'],
    [`${lab} ctl delete policy web -n shop`, 'open the web servers again'],
    ...(pod ? [[`${lab} exec ${pod.name} -- ip route`, 'a command in a pod'] as [string, string]] : []),
    [`${lab} exec n1 -- iptables-save`, 'a command on a node'],
    [`npm run lab -- --down${name}`, 'remove every trace'],
  ];
  const width = Math.max(...lines.map(([command]) => command.length));
  return lines.map(([command, text]) => `${command.padEnd(width)}   ${text}`);
}
