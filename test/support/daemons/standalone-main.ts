import { runBgpFile } from '../../../src/cli/bgp-file.ts';
import { runProgram } from '../../../src/cli/exit.ts';

/** `margay bgp --config FILE` as a program of its own. */
const [, , file = ''] = process.argv;
await runProgram('margay', () => runBgpFile(file, process.env, false));
