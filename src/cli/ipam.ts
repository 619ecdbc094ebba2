import { Command } from 'commander';
import { InputError } from '../base/errors.ts';
import type { Deps } from './apply.ts';
import { ExitError, exitCode } from './exit.ts';
import { checkIpam } from './ipam-check.ts';
import { type ConfigureOptions, configureIpam } from './ipam-configure.ts';
import { claimOwnership, releaseAddress, releaseHandle, releaseOwnership } from './ipam-release.ts';
import { type ShowOptions, showIpam } from './ipam-show.ts';
import { type SplitOptions, splitIpam } from './ipam-split.ts';
import { runOnStore as run } from './on-store.ts';
import type { Format } from './output.ts';

interface Output {
  readonly output?: string;
}

interface ReleaseOptions extends Output {
  readonly ip?: string;
  readonly handle?: string;
  readonly block?: string;
  readonly node?: string;
  readonly force?: boolean;
}

/** `margayctl ipam`: what holds which address, whether all fits together, and its repair. */
export function ipamCommand(): Command {
  const ipam = new Command('ipam').description('addresses: who holds them, what is wrong, its repair, settings');
  const output = ['-o, --output <format>', 'json or yaml instead of a table'] as const;
  ipam
    .command('show')
    .description('how full pools are')
    .option('--blocks', 'how full every block is, and whose it is')
    .option('--ip <address>', 'who holds and who uses one address')
    .option('--cidr <prefix>', 'the addresses held within a prefix; with --blocks, the blocks within it')
    .option(...output)
    .action((options: ShowOptions & Output) => run(options, (deps, format) => showIpam(options, deps, format)));
  ipam
    .command('check')
    .alias('audit')
    .description('what contradicts itself, each with its repair: exit 0 nothing does, 1 something does')
    .option('--grace <seconds>', 'an address younger than this is no leak', '60')
    .option(...output)
    .action((options: Output & { grace: string }) =>
      run(options, (deps, format) => checkIpam(seconds(options.grace), deps, format)),
    );
  ipam
    .command('release')
    .description('free an address, all addresses of a handle, or a block of its node')
    .option('--ip <address>', 'the address')
    .option('--handle <handle>', 'all that the handle holds; with --ip, only if this handle holds it')
    .option('--block <prefix>', "end the node's ownership of a block; addresses in use stay")
    .option('--node <node>', 'the owner that --block means')
    .option('--force', 'also addresses that an endpoint uses')
    .option(...output)
    .action((options: ReleaseOptions) => run(options, (deps, format) => release(options, deps, format)));
  ipam
    .command('claim')
    .description('finish the claim of a block that its node began')
    .requiredOption('--block <prefix>', 'the block')
    .requiredOption('--node <node>', 'its owner')
    .action((options: { block: string; node: string }) => run({}, (deps) => claimOwnership(options, deps)));
  ipam
    .command('configure')
    .description('change the settings; without options, show them')
    .option('--strictaffinity <boolean>', 'true: nodes take addresses from their own blocks alone')
    .option('--max-blocks-per-host <count>', 'blocks of a family that a node may own, 0 for 20; needs strict affinity')
    .option(...output)
    .action((options: ConfigureOptions & Output) =>
      run(options, (deps, format) => configureIpam(options, deps, format)),
    );
  ipam
    .command('split')
    .description('put smaller pools in the place of one, while the datastore is locked')
    .argument('<number>', 'how many, a power of two')
    .option('--cidr <prefix>', 'the pool, by its prefix')
    .option('--name <pool>', 'the pool, by its name')
    .action((number: string, options: SplitOptions) => run({}, (deps) => splitIpam(number, options, deps)));
  return ipam;
}

function release(
  { ip, handle, block, node, force = false }: ReleaseOptions,
  deps: Deps,
  format: Format,
): Promise<void> {
  if ((block === undefined) !== (node === undefined))
    throw new ExitError(exitCode.usage, '--block and --node go together');
  if (block !== undefined && node !== undefined) {
    if (ip !== undefined || handle !== undefined || force)
      throw new ExitError(exitCode.usage, '--block takes --node and nothing else');
    return releaseOwnership({ block, node }, deps);
  }
  if (ip !== undefined) return releaseAddress({ ip, force, ...(handle !== undefined && { handle }) }, deps, format);
  if (handle !== undefined) return releaseHandle({ handle, force }, deps, format);
  throw new ExitError(exitCode.usage, 'release takes --ip, --handle, or --block and --node');
}

function seconds(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InputError('--grace', text, 'whole seconds');
  return Number(text);
}
