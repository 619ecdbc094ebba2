import { Command } from 'commander';
import { InputError } from '../base/errors.ts';
import type { Environment } from './environment.ts';
import { ExitError, exitCode } from './exit.ts';
import { checkAgainstFile, checkAgainstStore, exportTo, importFrom, setLocked } from './migrate-datastore.ts';
import { runOnStore } from './on-store.ts';
import { stopSignal } from './supervisor.ts';

interface Output {
  readonly output?: string;
}

/** `margayctl datastore migrate`: from etcd to the Kubernetes API and back. */
export function datastoreCommand(): Command {
  const datastore = new Command('datastore').description('the datastore as a whole');
  const migrate = datastore
    .command('migrate')
    .description('move everything into another datastore; files are those of calicoctl');
  const output = ['-o, --output <format>', 'json or yaml instead of a table'] as const;
  migrate
    .command('lock')
    .description('let no node start or stop pods until unlock: ClusterInformation(default).spec.datastoreReady false')
    .action(() => runOnStore({}, (deps) => setLocked(true, deps)));
  migrate
    .command('unlock')
    .description('let nodes start and stop pods again')
    .action(() => runOnStore({}, (deps) => setLocked(false, deps)));
  migrate
    .command('export')
    .description('write all resources and addresses of a locked datastore to a file')
    .option('-f, --filename <file>', 'the file to make, or - for standard output', '-')
    .action(({ filename }: { filename: string }) => runOnStore({}, (deps) => exportTo(filename, deps)));
  migrate
    .command('import')
    .description('write a file of export into this datastore, which is locked first; may be run again')
    .requiredOption('-f, --filename <file>', 'the file, or - for standard input')
    .option('--overwrite', "the file's word counts where the datastore says something else")
    .option(...output)
    .action((options: Output & { filename: string; overwrite?: boolean }) =>
      runOnStore(options, (deps, format) =>
        importFrom(options.filename, options.overwrite ?? false, deps, process.env, format, stopSignal(process.env)),
      ),
    );
  migrate
    .command('check')
    .description('name every difference to a file or another datastore: exit 0 none, 1 some')
    .option('-f, --filename <file>', 'a file of export, or - for standard input')
    .option('--with <type>', 'the other datastore, etcdv3 or kubernetes, by its own variables in the environment')
    .option(...output)
    .action((options: Output & { filename?: string; with?: string }) => check(options));
  return datastore;
}

function check(options: Output & { readonly filename?: string; readonly with?: string }): Promise<void> {
  const { filename, with: other } = options;
  if ((filename === undefined) === (other === undefined))
    throw new ExitError(exitCode.usage, 'check takes either --filename or --with');
  if (filename !== undefined)
    return runOnStore(options, (deps, format) => checkAgainstFile(filename, deps, process.env, format));
  const env = environmentFor(other ?? '', process.env);
  return runOnStore(options, (deps, format) =>
    runOnStore({}, (there) => checkAgainstStore(deps.store, there.store, process.env, env, format), env),
  );
}

/** The same environment for another type of datastore, whose variables are others. @throws ExitError for the same type */
export function environmentFor(type: string, env: Environment): Environment {
  if (type !== 'etcdv3' && type !== 'kubernetes')
    throw new ExitError(exitCode.usage, new InputError('--with', type, 'etcdv3 or kubernetes').message);
  const current = env['CALICO_DATASTORE_TYPE'] || env['DATASTORE_TYPE'] || 'etcdv3';
  if (current === type)
    throw new ExitError(exitCode.usage, new InputError('--with', type, `another type than DATASTORE_TYPE`).message);
  return { ...env, CALICO_DATASTORE_TYPE: type, DATASTORE_TYPE: type };
}
