import { InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { nearest } from './nearest.ts';

/** What felix honours of Calico's FELIX_* environment, with Calico's names and defaults. */
export interface FelixConfig {
  /** Prefix of the host side devices of pods. */
  readonly interfacePrefix: string;
  readonly ipv6Support: boolean;
  readonly iptablesBackend: 'auto' | 'legacy' | 'nft';
  /** What happens to packets from a pod to its own host that policy let out. */
  readonly endpointToHost: 'DROP' | 'RETURN' | 'ACCEPT';
  /** Seconds between reading everything again; 0 never. */
  readonly routeRefreshSeconds: number;
  readonly ipsetsRefreshSeconds: number;
  readonly iptablesRefreshSeconds: number;
  /** Seconds that BGP routes outlive a broken route feed. */
  readonly staleRouteSeconds: number;
  readonly healthEnabled: boolean;
  readonly healthHost: string;
  readonly healthPort: number;
  readonly metricsEnabled: boolean;
  readonly metricsHost: string;
  readonly metricsPort: number;
}

type Parse<V> = (text: string, name: string) => V;

/** Setting, its environment name without `FELIX_`, how it is read, and its value when absent. */
const settings: { readonly [K in keyof FelixConfig]: readonly [string, Parse<FelixConfig[K]>, FelixConfig[K]] } = {
  interfacePrefix: ['INTERFACEPREFIX', devicePrefix, 'cali'],
  ipv6Support: ['IPV6SUPPORT', boolean, true],
  iptablesBackend: ['IPTABLESBACKEND', choice({ auto: 'auto', legacy: 'legacy', nft: 'nft' }), 'auto'],
  endpointToHost: ['DEFAULTENDPOINTTOHOSTACTION', choice({ drop: 'DROP', return: 'RETURN', accept: 'ACCEPT' }), 'DROP'],
  routeRefreshSeconds: ['ROUTEREFRESHINTERVAL', seconds, 90],
  ipsetsRefreshSeconds: ['IPSETSREFRESHINTERVAL', seconds, 90],
  iptablesRefreshSeconds: ['IPTABLESREFRESHINTERVAL', seconds, 180],
  staleRouteSeconds: ['STALEROUTEINTERVAL', seconds, 120],
  healthEnabled: ['HEALTHENABLED', boolean, false],
  healthHost: ['HEALTHHOST', host, 'localhost'],
  healthPort: ['HEALTHPORT', port, 9099],
  metricsEnabled: ['PROMETHEUSMETRICSENABLED', boolean, false],
  metricsHost: ['PROMETHEUSMETRICSHOST', host, 'localhost'],
  metricsPort: ['PROMETHEUSMETRICSPORT', port, 9091],
};

/** Read by the entry point, which makes the log. */
const elsewhere = ['LOGSEVERITYSCREEN'];

/**
 * Reads FELIX_* (any letter case, as Calico does). A variable that felix does not know is named in a warning, with the
 * nearest name it knows.
 * @throws InputError naming the variable and its value
 */
export function readFelixConfig(environment: Readonly<Record<string, string | undefined>>, log: Log): FelixConfig {
  const given = felixVariables(environment);
  const known = [...elsewhere, ...Object.values(settings).map(([name]) => name)];
  for (const [name, { variable }] of given) {
    if (known.includes(name)) continue;
    const near = nearest(name, known);
    log.warn({ variable, ...(near && { didYouMean: `FELIX_${near}` }) }, 'unknown setting has no effect');
  }
  const read = <K extends keyof FelixConfig>(key: K): FelixConfig[K] => {
    const [name, parse, absent] = settings[key];
    const found = given.get(name);
    return found === undefined || found.value.trim() === '' ? absent : parse(found.value.trim(), found.variable);
  };
  return {
    interfacePrefix: read('interfacePrefix'),
    ipv6Support: read('ipv6Support'),
    iptablesBackend: read('iptablesBackend'),
    endpointToHost: read('endpointToHost'),
    routeRefreshSeconds: read('routeRefreshSeconds'),
    ipsetsRefreshSeconds: read('ipsetsRefreshSeconds'),
    iptablesRefreshSeconds: read('iptablesRefreshSeconds'),
    staleRouteSeconds: read('staleRouteSeconds'),
    healthEnabled: read('healthEnabled'),
    healthHost: read('healthHost'),
    healthPort: read('healthPort'),
    metricsEnabled: read('metricsEnabled'),
    metricsHost: read('metricsHost'),
    metricsPort: read('metricsPort'),
  };
}

function felixVariables(environment: Readonly<Record<string, string | undefined>>) {
  const found = new Map<string, { variable: string; value: string }>();
  for (const [variable, value] of Object.entries(environment)) {
    const upper = variable.toUpperCase();
    if (value !== undefined && upper.startsWith('FELIX_')) found.set(upper.slice(6), { variable, value });
  }
  return found;
}

function boolean(text: string, name: string): boolean {
  const value = text.toLowerCase();
  if (['true', '1', 'yes', 'y', 't'].includes(value)) return true;
  if (['false', '0', 'no', 'n', 'f'].includes(value)) return false;
  throw new InputError(name, text, 'true or false');
}

function seconds(text: string, name: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  // Timers of the runtime hold at most 2^31-1 milliseconds.
  if (!(value <= 2_000_000)) throw new InputError(name, text, 'seconds from 0 (never) to 2000000');
  return value;
}

function port(text: string, name: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= 1 && value <= 65535)) throw new InputError(name, text, 'a port from 1 to 65535');
  return value;
}

function host(text: string, name: string): string {
  if (!/^[A-Za-z0-9.:_-]{1,253}$/.test(text)) throw new InputError(name, text, 'a host name or an IP address');
  return text;
}

/** A pod's device has eleven hexadecimal digits after the prefix, and a device name fifteen characters. */
function devicePrefix(text: string, name: string): string {
  if (!/^[a-zA-Z][a-zA-Z0-9_-]{0,3}$/.test(text)) throw new InputError(name, text, 'one to four letters or digits');
  return text;
}

function choice<V extends string>(values: Readonly<Record<string, V>>): Parse<V> {
  return (text, name) => {
    const key = text.toLowerCase();
    const found = Object.hasOwn(values, key) ? values[key] : undefined;
    if (found === undefined) throw new InputError(name, text, `one of ${Object.keys(values).join(', ')}`);
    return found;
  };
}
