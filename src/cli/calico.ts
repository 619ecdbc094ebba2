import { fileURLToPath } from 'node:url';
import { actionOf } from './calico-names.ts';
import { ExitError, exitCode, runProgram } from './exit.ts';
import { probeFailure } from './probe.ts';

/*
 * `calico NAME ARGS…`: a command of Calico's images by its name there. It imports little, as probes run every few
 * seconds; the programs themselves are loaded when one is to run.
 */

/** Where Calico's manifests mount the host's directories, so that the plugin on the host finds the agent's socket. */
const directories = { MARGAY_RUN_DIR: '/var/run/calico', MARGAY_LIB_DIR: '/var/lib/calico' };

await runProgram('calico', async () => {
  for (const [name, path] of Object.entries(directories)) process.env[name] ||= path;
  const [name = '', ...args] = process.argv.slice(2);
  const action = actionOf(name.slice(name.lastIndexOf('/') + 1), args, process.env);
  switch (action.do) {
    case 'nothing':
      process.stdout.write(`${action.reason}\n`);
      return;
    case 'probe': {
      const failures = (await Promise.all(action.probes.map((each) => probeFailure(each, process.env)))).filter(
        Boolean,
      );
      if (failures.length > 0) throw new ExitError(exitCode.failure, failures.join('; '));
      return;
    }
    case 'run': {
      const program = new URL('./margay.js', import.meta.url);
      process.argv = [process.argv[0] ?? 'node', fileURLToPath(program), ...action.args];
      await import(program.href);
    }
  }
});
