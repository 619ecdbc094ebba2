import { Command } from 'commander';
import { ExitError, exitCode } from './exit.ts';

/**
 * `margay`: the programs of a node. Configured by environment variables and by resources in the datastore. Each program
 * is loaded when it is to run, without what only the others need: the clients of datastores alone take 30 MB.
 */
export function margayProgram(): Command {
  const program = new Command('margay').description('pod routing and network policy of one node');
  program
    .command('node')
    .description('write this node to the datastore, then run felix and bgp and keep them running')
    .action(async () => (await import('./node.ts')).runNode(process.env));
  const felix = program
    .command('felix')
    .description('program routes, policy and pod interfaces into this kernel, and serve CNI requests')
    .action(async () => (await import('./felix.ts')).runFelixProgram(process.env));
  felix
    .command('cleanup')
    .description('take our routes, chains, IP sets and tunnels out of this kernel, while felix does not run')
    .option('--devices', "the pods' devices too, which cuts pods that still run")
    .action(async (options: { devices?: boolean }) => (await import('./cleanup.ts')).cleanupNode(process.env, options));
  program
    .command('bgp')
    .description('exchange routes with other nodes and routers')
    .option('--config <file>', 'run alone, as this file says: no datastore, no felix')
    .option('--check', 'only check the file of --config')
    .action(async ({ config, check = false }: { config?: string; check?: boolean }) => {
      if (config !== undefined) return (await import('./bgp-file.ts')).runBgpFile(config, process.env, check);
      if (check) throw new ExitError(exitCode.usage, '--check: which file? name it with --config');
      return (await import('./bgp.ts')).runBgpProgram(process.env);
    });
  program
    .command('startup')
    .description('write this node, and if there are none the default pools, to the datastore; then end')
    .action(async () => (await import('./node.ts')).runStartup(process.env));
  program
    .command('controllers')
    .description('once for a cluster: free what departed nodes and pods left, audit addresses, copy Kubernetes to etcd')
    .action(async () => (await import('./controllers.ts')).runControllersProgram(process.env));
  const cni = program.command('cni').description('the CNI plugin of this node');
  withCniFolders(cni.command('install'))
    .description('put the plugin and its network configuration in place')
    .action(async (options: { binDir: string; confDir: string }) =>
      (await import('./cni.ts')).installCni(process.env, options),
    );
  withCniFolders(cni.command('uninstall'))
    .description('remove the plugin and its network configuration')
    .action(async (options: { binDir: string; confDir: string }) =>
      (await import('./cni.ts')).uninstallCni(process.env, options),
    );
  return program;
}

function withCniFolders(command: Command): Command {
  const { CNI_BIN_DIR = '/opt/cni/bin', CNI_NET_DIR = '/etc/cni/net.d' } = process.env;
  return command
    .option('--bin-dir <directory>', 'where the runtime looks for plugins', CNI_BIN_DIR)
    .option('--conf-dir <directory>', 'where the runtime looks for networks', CNI_NET_DIR);
}
