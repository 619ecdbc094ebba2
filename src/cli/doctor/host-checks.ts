import type { Link } from '../../kernel/types.ts';
import { parseIp } from '../../model/address.ts';
import type { Check, ClusterFacts, Finding, NetworkFacts } from './facts.ts';
import { both, cluster, expectsBgp, failure, known, ok, warning } from './judge.ts';

/* What the machine itself is like. Pure. */

/** Outer headers of a tunnel over IPv4, in octets. RFC 2003, RFC 7348; UDP of ours. */
const overhead = { ipip: 20, vxlan: 50, udp: 28 } as const;
const fewOctets = 0.05;
const dayMs = 86_400_000;

export const hostChecks: Readonly<Record<string, Check>> = {
  'node-address': (facts) =>
    both(facts, 'node-address', ({ nodes }, { addresses }) => {
      const own = nodes.find(({ metadata }) => metadata.name === facts.node);
      if (!own)
        return [
          failure(
            'node-address',
            `the datastore has no Node ${facts.node}`,
            'start margay node, or set NODENAME to the right name',
          ),
        ];
      const { ipv4Address, ipv6Address } = own.spec.bgp ?? {};
      const wanted = [ipv4Address, ipv6Address]
        .filter((text) => text !== undefined)
        .map((text) => text.split('/')[0] ?? '');
      if (wanted.length === 0)
        return [
          failure(
            'node-address',
            `Node ${facts.node} has no address`,
            'set IP, or IP_AUTODETECTION_METHOD to name the right interface',
          ),
        ];
      const here = new Map(addresses.map(({ address, device }) => [String(address), device]));
      return wanted.map((text) => {
        const device = here.get(parseIp(text));
        if (device !== undefined) return ok('node-address', `${text} is on ${device}`);
        const fix =
          'correct IP or IP_AUTODETECTION_METHOD: other nodes send this node its pods’ packets to that address';
        return failure('node-address', `the node's address ${text} is on none of its devices`, fix);
      });
    }),
  'same-address': (facts) =>
    cluster(facts, 'same-address', ({ nodes }) => {
      const byAddress = Map.groupBy(
        nodes.flatMap(({ metadata, spec }) =>
          [spec.bgp?.ipv4Address, spec.bgp?.ipv6Address].flatMap((text) =>
            text === undefined ? [] : [{ name: metadata.name, address: text.split('/')[0] ?? '' }],
          ),
        ),
        ({ address }) => address,
      );
      return [...byAddress].flatMap(([address, holders]) =>
        holders.length < 2
          ? []
          : [
              failure(
                'same-address',
                `${holders.map(({ name }) => name).join(' and ')} have the same address ${address}`,
                'delete the Node that is gone, or correct the address of the one that has it wrong',
              ),
            ],
      );
    }),
  'tunnel-mtu': (facts) => {
    const { felix } = facts;
    if (!felix.running) return [];
    return both(facts, 'tunnel-mtu', ({ nodes }, network) => {
      const uplink = uplinkOf(facts.node, nodes, network);
      if (!uplink) return [];
      return felix.status.tunnels.flatMap(({ kind, device, mtu, state }) => {
        const most = uplink.mtu - overhead[kind];
        if (state !== 'up' || mtu <= most) return [];
        const detail = `${device} takes packets of ${mtu} octets, and ${uplink.name} carries ${most} of them`;
        return [
          failure(
            'tunnel-mtu',
            detail,
            'lower the MTU in the FelixConfiguration (or leave it at 0), or raise the uplink’s',
          ),
        ];
      });
    });
  },
  'uplink-mtu': (facts) =>
    both(facts, 'uplink-mtu', ({ nodes }, network) => {
      const uplink = uplinkOf(facts.node, nodes, network);
      if (!uplink) return [];
      const { mtu, name } = uplink;
      if (mtu >= 1280) return [ok('uplink-mtu', `${name} carries ${mtu} octets`)];
      return [
        failure('uplink-mtu', `${name} carries ${mtu} octets, and IPv6 needs 1280`, 'raise the MTU of the device'),
      ];
    }),
  forwarding: ({ sysctls, felix }) =>
    known(sysctls, 'forwarding', (values) => {
      const six =
        felix.running && felix.status.endpoints.some(({ addresses }) => addresses.some((one) => one.includes(':')));
      const needed = ['net/ipv4/ip_forward', ...(six ? ['net/ipv6/conf/all/forwarding'] : [])];
      const off = needed.filter((path) => values.get(path) === '0');
      if (off.length === 0) return [ok('forwarding', 'the kernel forwards packets')];
      const list = off.map((path) => path.replaceAll('/', '.')).join(', ');
      return [
        failure(
          'forwarding',
          `${list} is off: no pod reaches another node`,
          'felix sets it within ten seconds; find out what clears it',
        ),
      ];
    }),
  conntrack: ({ sysctls }) =>
    known(sysctls, 'conntrack', (values) => {
      const count = Number(values.get('net/netfilter/nf_conntrack_count') ?? Number.NaN);
      const most = Number(values.get('net/netfilter/nf_conntrack_max') ?? Number.NaN);
      if (!(most > 0)) return [];
      const share = count / most;
      const detail = `${count} of ${most} connections are tracked`;
      const fix = 'raise net.netfilter.nf_conntrack_max: packets of new connections are dropped when it is reached';
      if (share >= 0.98) return [failure('conntrack', detail, fix)];
      return share >= 0.8 ? [warning('conntrack', detail, fix)] : [ok('conntrack', detail)];
    }),
  'iptables-backend': ({ firewall }) =>
    known(firewall, 'iptables-backend', ({ legacy, nft }) => {
      if (legacy.ours > 0 && nft.ours > 0)
        return [
          failure(
            'iptables-backend',
            `our chains are in both backends, ${nft.ours} in nft and ${legacy.ours} in legacy: each packet is judged twice`,
            'restart felix, which takes them out of the other backend; see that only one network agent runs',
          ),
        ];
      const used = nft.ours > 0 ? 'nft' : legacy.ours > 0 ? 'legacy' : undefined;
      if (!used) return [];
      const kube = { legacy: legacy.kube, nft: nft.kube };
      const other = used === 'nft' ? 'legacy' : 'nft';
      if (kube[other] > 0 && kube[used] === 0)
        return [
          failure(
            'iptables-backend',
            `our rules are in ${used}, and those of Kubernetes in ${other}`,
            `set iptablesBackend of the FelixConfiguration to ${other === 'nft' ? 'NFT' : 'Legacy'}, or mend the host's iptables`,
          ),
        ];
      return [ok('iptables-backend', `rules are in ${used}`)];
    }),
  'port-179': (facts) =>
    known(facts.processes, 'port-179', ({ bgpListeners }) => {
      const strangers = bgpListeners.filter((name) => !/^(node|margay|MainThread)/.test(name));
      if (!expectsBgp(facts) || strangers.length === 0) return [];
      const detail = `${strangers.join(', ')} listens on TCP port 179`;
      return [failure('port-179', detail, 'stop that BGP speaker, or give it another port: two cannot share one')];
    }),
  'other-networks': ({ processes }) =>
    known(processes, 'other-networks', ({ others }) =>
      others.length === 0
        ? []
        : [
            warning(
              'other-networks',
              `${others.join(', ')} runs on this host too`,
              'let one pod network manage a node: two undo each other’s routes and rules',
            ),
          ],
    ),
  disk: ({ disks }) =>
    known(disks, 'disk', (all) =>
      all.flatMap(({ directory, free, writable }): Finding[] => {
        if (!writable)
          return [
            failure('disk', `${directory} cannot be written`, 'mount it writable: sockets and waiting DELs live there'),
          ];
        if (free < fewOctets)
          return [
            warning(
              'disk',
              `${Math.round(free * 100)} % of ${directory} is free`,
              'free some space: DELs could no longer be queued',
            ),
          ];
        return [];
      }),
    ),
  'cni-configuration': ({ cni }) =>
    known(cni, 'cni-configuration', ({ configurations, confDir, plugin, binDir }) => {
      const at = configurations.findIndex(({ types }) => types?.some(isOurs));
      const [first] = configurations;
      if (at < 0)
        return plugin
          ? [failure('cni-configuration', `${confDir} has no configuration of ours`, 'run margay cni install')]
          : [];
      if (at > 0 && first)
        return [
          failure(
            'cni-configuration',
            `container runtimes take ${first.file} (${first.types?.join(', ') ?? 'unreadable'}), which comes first in ${confDir}`,
            'remove it, or give ours a name that comes earlier with CNI_CONF_NAME',
          ),
        ];
      if (!plugin) return [failure('cni-configuration', `${binDir} has no margay plugin`, 'run margay cni install')];
      return [ok('cni-configuration', `${configurations[at]?.file} is what container runtimes take`)];
    }),
  'cni-socket': ({ cni }) =>
    known(cni, 'cni-socket', ({ plugin, socket, expectedSocket, served }) => {
      if (plugin && socket !== undefined && socket !== expectedSocket)
        return [
          failure(
            'cni-socket',
            `the plugin seeks the agent at ${socket}, which serves ${expectedSocket}`,
            'run margay cni install with the MARGAY_RUN_DIR of the agent',
          ),
        ];
      if (served) return [ok('cni-socket', `${expectedSocket} is served`)];
      return [failure('cni-socket', `${expectedSocket} is not there: pods cannot start`, 'start margay felix')];
    }),
  'cni-queue': ({ cni, felix }) =>
    known(cni, 'cni-queue', ({ waiting }) => {
      if (waiting === 0) return [];
      const fix = felix.running
        ? 'they are done within seconds; if not, its log says why'
        : 'they are done when margay felix runs';
      return [warning('cni-queue', `${waiting} removals of pods wait for the agent`, fix)];
    }),
  'cni-token': ({ cni, now }) =>
    known(cni, 'cni-token', ({ token }) => {
      if (!token) return [];
      const left = token.expires.getTime() - now.getTime();
      const at = token.expires.toISOString();
      if (left <= 0)
        return [
          failure(
            'cni-token',
            `the token in ${token.file} ended at ${at}`,
            'restart the agent, which writes a new one',
          ),
        ];
      return left < dayMs / 24
        ? [warning('cni-token', `the token in ${token.file} ends at ${at}`, 'see that the agent runs: it renews it')]
        : [];
    }),
};

function isOurs(type: string): boolean {
  return type === 'margay' || type === 'calico';
}

/** The device that holds the node's IPv4 address. */
function uplinkOf(node: string, nodes: ClusterFacts['nodes'], { links, addresses }: NetworkFacts): Link | undefined {
  const text = nodes.find(({ metadata }) => metadata.name === node)?.spec.bgp?.ipv4Address?.split('/')[0];
  const device = text && addresses.find(({ address }) => address === parseIp(text))?.device;
  return links.find(({ name }) => name === device);
}
