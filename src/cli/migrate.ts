import { join } from 'node:path';
import { Command } from 'commander';
import { openNetlink } from '../kernel/rtnetlink/driver.ts';
import type { Folders } from '../migrate/host-local/gather.ts';
import { parseCidr } from '../model/address.ts';
import { nodename } from './environment.ts';
import { checkCalico } from './migrate-check.ts';
import { applyMigration, type MigrateDeps, planMigration, rollBackMigration } from './migrate-node.ts';
import { runOnStore } from './on-store.ts';
import type { Format } from './output.ts';
import { stopSignal } from './supervisor.ts';

interface Options {
  readonly node?: string;
  readonly podCidr?: string;
  readonly networksDir: string;
  readonly resultsDir: string;
  readonly confDir: string;
  readonly record: string;
  readonly output?: string;
}

interface ApplyOptions extends Options {
  readonly allowRestarts?: boolean;
  readonly vxlan?: boolean;
}

/** `margayctl migrate`: a node of a flannel or host-local cluster goes over with the pods that run on it. */
export function migrateCommand(): Command {
  const migrate = new Command('migrate').description('take over this node from flannel or another host-local network');
  onNode(migrate.command('plan').description('what apply would do, and what stands in its way: exit 1 something does'))
    .option('-o, --output <format>', 'json or yaml instead of a page')
    .action((options: Options) => run(options, (deps, format) => planMigration(deps, format)));
  onNode(migrate.command('apply').description("enter this node's pods into the datastore and take over their devices"))
    .option('--allow-restarts', 'go on although some pods lose the network until they are started anew')
    .option('--vxlan', 'let the new pools use VXLAN between the nodes that have moved')
    .action((options: ApplyOptions) =>
      run(options, (deps) => applyMigration(deps, options.allowRestarts ?? false, options.vxlan ?? false)),
    );
  onNode(migrate.command('rollback').description('undo what the record of apply names')).action((options: Options) =>
    run(options, (deps) => rollBackMigration(deps)),
  );
  migrate
    .command('check')
    .description('what of a running Calico Margay does not follow: exit 0 nothing, 1 something; nothing is changed')
    .option('-o, --output <format>', 'json or yaml instead of a table')
    .action((options: { output?: string }) => runOnStore(options, (deps, format) => checkCalico(deps, format)));
  return migrate;
}

function onNode(command: Command): Command {
  return command
    .option('--node <node>', "this node's name, instead of NODENAME or the host's")
    .option('--pod-cidr <prefixes>', "this node's podCIDRs, separated by commas, where neither Node nor flannel tells")
    .option('--networks-dir <folder>', 'where host-local keeps its addresses', '/var/lib/cni/networks')
    .option('--results-dir <folder>', 'where the runtime remembers its attachments', '/var/lib/cni/results')
    .option(
      '--conf-dir <folder>',
      'where the runtime looks for networks',
      process.env['CNI_NET_DIR'] ?? '/etc/cni/net.d',
    )
    .option(
      '--record <file>',
      'what apply did, for rollback',
      join(process.env['MARGAY_LIB_DIR'] || '/var/lib/margay', 'migration.json'),
    );
}

function run(options: Options, action: (deps: MigrateDeps, format: Format) => Promise<void>): Promise<void> {
  return runOnStore({ ...(options.output !== undefined && { output: options.output }) }, async (deps, format) => {
    const folders: Folders = {
      networks: options.networksDir,
      results: options.resultsDir,
      configurations: options.confDir,
      flannel: '/run/flannel/subnet.env',
    };
    const podCidrs = (options.podCidr ?? '').split(',').filter((text) => text !== '');
    const host = openNetlink();
    try {
      await action(
        {
          ...deps,
          ...{ host, folders, record: options.record, signal: stopSignal(process.env) },
          node: options.node ?? nodename(process.env),
          interfacePrefix: process.env['FELIX_INTERFACEPREFIX']?.split(',')[0]?.trim() || 'cali',
          podCidrs: podCidrs.map((text) => parseCidr(text, '--pod-cidr')),
        },
        format,
      );
    } finally {
      host.close();
    }
  });
}
