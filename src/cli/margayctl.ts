import { ctlProgram } from './ctl-program.ts';
import { runCtl } from './run-ctl.ts';

await runCtl(ctlProgram(), process.argv.length > 2 ? process.argv : [...process.argv, '--help']);
