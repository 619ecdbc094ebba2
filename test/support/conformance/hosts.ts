import { calicoEvent, node } from '../cluster.ts';
import { deny, global, type Row } from './row.ts';

/** Host endpoints; more of them is in host-endpoint.test.ts. */
export const hostRows: readonly Row[] = [
  {
    title: 'failsafe ports are for the host itself, and not for what it forwards',
    objects: [
      calicoEvent(
        'FelixConfiguration',
        { name: 'default' },
        { failsafeInboundHostPorts: [{ protocol: 'TCP', port: 85 }], failsafeOutboundHostPorts: [] },
      ),
      calicoEvent('HostEndpoint', { name: 'h', labels: { role: 'edge' } }, { node, interfaceName: 'uplink' }),
      global('h', {
        selector: "role == 'edge'",
        applyOnForward: true,
        types: ['Ingress'],
        ingress: [deny],
      }),
    ],
    open: ['outside > host TCP 85', 'pod-0 > outside TCP 85'],
    closed: ['outside > pod-0 TCP 85', 'outside > host TCP 80'],
  },
];
