import { Command } from 'commander';
import { runDir } from './environment.ts';
import { showConfig, showStatus } from './local.ts';
import { parseFormat } from './output.ts';

interface Output {
  readonly output?: string;
}

/** `margayctl status`. */
export function statusCommand(): Command {
  return new Command('status')
    .description("this node's agents: datastore, dataplane, BGP sessions, problems")
    .option('-o, --output <format>', 'json or yaml instead of a page')
    .action(({ output }: Output) => showStatus(runDir(process.env), parseFormat(output)));
}

/** `margayctl config explain`. */
export function configCommand(): Command {
  const config = new Command('config').description("settings of this node's agents");
  config
    .command('explain')
    .description('every setting of felix, its value and where it comes from')
    .option('-o, --output <format>', 'json or yaml instead of a table')
    .action(({ output }: Output) => showConfig(runDir(process.env), parseFormat(output)));
  return config;
}
