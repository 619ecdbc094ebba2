import { Command } from 'commander';
import { explainCommand } from './explain.ts';
import { flowsCommand } from './flows.ts';
import { configCommand, statusCommand } from './local-commands.ts';
import { bgpCommand } from './peering.ts';
import { runCtl } from './run-ctl.ts';

/*
 * `margayctl` as it is started. What this node's agents answer is asked without loading what the other commands need:
 * the clients of datastores and the schemas of all objects take most of a second. scripts/bundle.ts puts each behind
 * its `import()` into a bundle of its own, so nothing but values and promises may cross.
 */
const asking: Readonly<Record<string, () => Command>> = {
  bgp: bgpCommand,
  config: configCommand,
  explain: () => explainCommand(async (...question) => (await import('./explain-apart.ts')).explainApart(...question)),
  flows: flowsCommand,
  status: statusCommand,
};

const [, , name = ''] = process.argv;
const command = Object.hasOwn(asking, name) ? asking[name] : undefined;
if (command) await runCtl(new Command('margayctl').addCommand(command()), process.argv);
else await import('./margayctl.ts');
