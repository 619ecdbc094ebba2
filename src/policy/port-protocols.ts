/** Protocols whose ports have names in endpoints, services and policies, by their IANA numbers. */
export const portProtocolNumbers = { tcp: 6, udp: 17, sctp: 132 } as const;

/** As `projectcalico.org/v3` and Kubernetes name them, in lower case. */
export type PortProtocol = keyof typeof portProtocolNumbers;

export const portProtocols = Object.keys(portProtocolNumbers) as readonly PortProtocol[];

const names: ReadonlyMap<number, PortProtocol> = new Map(
  portProtocols.map((name) => [portProtocolNumbers[name], name]),
);

/** By its IANA number; undefined for one whose ports have no names. */
export function portProtocolOf(number: number): PortProtocol | undefined {
  return names.get(number);
}
