/** Calico's settings of things that are not here at all, or that tune its own programs: no reason for a warning. */
const calicoOnly =
  /^(bpf|wireguard|flowLogs|dnsTrust|windows|kube|failsafe|usageReporting|reporting|endpointReporting|netlink|debug|log|nftables|device|route|natOutgoing|natPortRange|iptables|typha|xdp|genericXDP|sidecar|awsSrc|mtuIface|maxIpset|policySync|workloadSource|floatingIPs|allow|removeExternalRoutes|chainInsertMode|disableConntrack|disableHostSubnet|useInternal|prometheus|health|ipForwarding|programClusterRoutes|interface|dataplane|endpointStatus|goG|goM|liveMigration|ipv4|ipv6|nodeSelector)/;

/** Of these, what changes what happens to packets → values that ask for what happens here anyway, in lower case. */
const usual: Readonly<Record<string, readonly string[]>> = {
  bpfEnabled: ['false'],
  wireguardEnabled: ['false'],
  wireguardEnabledV6: ['false'],
  nftablesMode: ['auto', 'disabled'],
  chainInsertMode: ['insert'],
  iptablesFilterAllowAction: ['accept'],
  iptablesMangleAllowAction: ['accept'],
  iptablesFilterDenyAction: ['drop'],
  deviceRouteSourceAddress: [''],
  deviceRouteSourceAddressIPv6: [''],
  floatingIPs: ['disabled'],
  routeSource: ['calicoipam'],
  routeSyncDisabled: ['false'],
};

/**
 * What a field of a FelixConfiguration that this agent does not have is to whoever wrote it: a name that nobody has, one of
 * Calico's whose effect will be missed, or one of Calico's that is not missed.
 */
export function withoutEffect(field: string, value: unknown): 'unknown' | 'missed' | 'harmless' {
  const values = Object.hasOwn(usual, field) ? usual[field] : undefined;
  if (values) return values.includes(String(value).toLowerCase()) ? 'harmless' : 'missed';
  return calicoOnly.test(field) ? 'harmless' : 'unknown';
}
