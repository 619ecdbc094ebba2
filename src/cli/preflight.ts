import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { EnvironmentError, errorCode } from '../base/errors.ts';
import type { Environment } from './environment.ts';

/** Bits of the effective capability set, linux/capability.h. */
const capabilities = { NET_BIND_SERVICE: 10, NET_ADMIN: 12, NET_RAW: 13, SYS_ADMIN: 21 } as const;
type Capability = keyof typeof capabilities;

/** Program → the Debian package that has it. */
const programs = {
  'iptables-restore': 'iptables',
  'iptables-save': 'iptables',
  ipset: 'ipset',
} as const;

/** What `margay felix` needs of the host before it starts. @throws EnvironmentError with the remedy */
export function checkFelix(env: Environment): void {
  needCapabilities('margay felix', ['NET_ADMIN', 'NET_RAW', 'SYS_ADMIN']);
  needPrograms(env);
}

/** What `margay felix cleanup` needs, which enters no pod's namespace. @throws EnvironmentError with the remedy */
export function checkCleanup(env: Environment): void {
  needCapabilities('margay felix cleanup', ['NET_ADMIN', 'NET_RAW']);
  needPrograms(env);
}

function needPrograms(env: Environment): void {
  const missing = Object.entries(programs).filter(([program]) => !onPath(program, env['PATH']));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map(([, name]) => name))].join(' ');
  throw new EnvironmentError(
    `not found in PATH: ${missing.map(([program]) => program).join(', ')}`,
    `install it with: apt-get install ${packages}`,
  );
}

/** What `margay bgp` needs of the host before it starts. @throws EnvironmentError with the remedy */
export function checkBgp(): void {
  if (lowestFreePort() > 179) needCapabilities('margay bgp', ['NET_BIND_SERVICE']);
}

/** What a lab needs, whose machines are network namespaces and whose files are root's. @throws EnvironmentError */
export function checkLab(): void {
  needCapabilities('the lab', ['NET_ADMIN', 'SYS_ADMIN']);
}

/** Names of the capabilities that the hexadecimal set of /proc/self/status lacks. Pure. */
export function lackingCapabilities(effective: string, needed: readonly Capability[]): Capability[] {
  const set = BigInt(`0x${effective}`);
  return needed.filter((name) => ((set >> BigInt(capabilities[name])) & 1n) === 0n);
}

function needCapabilities(who: string, needed: readonly Capability[]): void {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
  const lacking = lackingCapabilities(effective ?? '0', needed);
  if (lacking.length === 0) return;
  const list = lacking.map((name) => `CAP_${name}`).join(', ');
  throw new EnvironmentError(`${who} lacks ${list}`, 'run it as root, or give it these capabilities');
}

/** True when a directory of `path` holds an executable of that name. */
export function onPath(program: string, path = ''): boolean {
  return path.split(delimiter).some((directory) => {
    if (directory === '') return false;
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch (thrown) {
      if (['ENOENT', 'EACCES', 'ENOTDIR'].includes(errorCode(thrown) ?? '')) return false;
      throw thrown;
    }
  });
}

/** First port that needs no capability to bind, net.ipv4.ip_unprivileged_port_start. */
function lowestFreePort(): number {
  return Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'latin1'));
}
