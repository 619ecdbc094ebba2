import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { EnvironmentError } from '../base/errors.ts';
import { createLog, parseLevel } from '../base/log.ts';
import { cleanup, describeCleanup } from '../felix/cleanup.ts';
import { readFelixConfig } from '../felix/config.ts';
import { isServed } from '../felix/control.ts';
import { createIpsets } from '../kernel/ipset.ts';
import { savedRules } from '../kernel/iptables/backend.ts';
import { createIptables } from '../kernel/iptables/driver.ts';
import { openNetlink } from '../kernel/rtnetlink/driver.ts';
import type { Iptables } from '../kernel/types.ts';
import type { Family } from '../model/address.ts';
import { type Environment, runDir } from './environment.ts';
import { ExitError, exitCode } from './exit.ts';
import { checkCleanup } from './preflight.ts';

/**
 * `margay felix cleanup`: takes out of this node's kernel what felix put there.
 * @throws EnvironmentError while felix runs, ExitError when something could not be removed
 */
export async function cleanupNode(env: Environment, { devices = false }: { devices?: boolean }): Promise<void> {
  const log = createLog('cleanup', parseLevel(env['FELIX_LOGSEVERITYSCREEN'] || 'warn', 'FELIX_LOGSEVERITYSCREEN'));
  checkCleanup(env);
  const socket = join(runDir(env), 'felix.sock');
  if (await isServed(socket))
    throw new EnvironmentError(`felix runs here and serves ${socket}`, 'stop it first: it would put everything back');
  const { interfacePrefix } = readFelixConfig(env, log);
  const families: Family[] = existsSync('/proc/sys/net/ipv6') ? [4, 6] : [4];
  const drivers = new Map<string, Iptables>();
  for (const family of families)
    for (const backend of ['nft', 'legacy'] as const)
      if ((await savedRules(family, backend)) === undefined)
        log.warn({ family, backend }, 'the programs of this iptables backend are not installed: not looked at');
      else drivers.set(`IPv${family} ${backend}`, createIptables({ family, backend, log }));
  const netlink = openNetlink();
  try {
    const ipsets = createIpsets({ log });
    const report = await cleanup({ netlink, iptables: drivers, ipsets, families, interfacePrefix, devices });
    process.stdout.write(describeCleanup(report));
    if (report.failures.length > 0) throw new ExitError(exitCode.failure, `${report.failures.length} things are left`);
  } finally {
    netlink.close();
  }
}
