import { InputError } from '../base/errors.ts';
import { runProgram } from '../cli/exit.ts';
import { asUsage } from '../cli/explain.ts';
import { parseArguments } from '../cli/parse.ts';
import { labProgram } from './program.ts';

/**
 * Options that stand before npm's `--` reach us as npm's own settings only; without them another lab would come up.
 * @throws InputError naming the first
 */
function checkNpmTookNone(env: NodeJS.ProcessEnv): void {
  const own = labProgram().options.map(({ long }) => long ?? '');
  const taken = own.find((option) => env[`npm_config_${option.slice(2)}`] !== undefined);
  if (taken !== undefined) throw new InputError(taken, 'an option of npm', `npm run lab -- ${taken} …`);
}

await runProgram('lab', () =>
  asUsage(() => {
    checkNpmTookNone(process.env);
    return parseArguments(labProgram(), process.argv);
  }),
);
