import { addressIn, type LabPlan, torAs } from './plan.ts';

/** The namespaces of the demo, and a BGP peer per family for the ToR: what an operator would apply first. Pure. */
export function clusterManifest({ families, tor }: LabPlan): string {
  const peers = tor ? families.map((family) => ({ name: `tor-v${family}`, address: addressIn(tor, family) })) : [];
  const namespaces = ['shop', 'guest'].map(
    (name) => `apiVersion: v1
kind: Namespace
metadata:
  name: ${name}
  labels: {team: ${name}}
`,
  );
  const bgpPeers = peers.map(
    ({ name, address }) => `apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata:
  name: ${name}
spec:
  peerIP: ${address.includes(':') ? `"${address}"` : address}
  asNumber: ${torAs}
`,
  );
  return [...namespaces, ...bgpPeers].join('---\n');
}

/** Only clients of the shop reach its web servers, and only over HTTP. */
export const policyManifest = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web
  namespace: shop
spec:
  podSelector:
    matchLabels: {app: web}
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector:
            matchLabels: {app: client}
      ports:
        - {protocol: TCP, port: 80}
`;
