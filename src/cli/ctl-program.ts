import { Command } from 'commander';
import { systemClock } from '../base/clock.ts';
import { explain, InputError } from '../base/errors.ts';
import { createLog } from '../base/log.ts';
import { readStoreConfig } from '../datastore/config.ts';
import { openStore } from '../datastore/open.ts';
import type { Store } from '../datastore/store.ts';
import { kinds } from '../model/kinds.ts';
import { applyOne, type Deps, deleteOne, readInput } from './apply.ts';
import { datastoreCommand } from './datastore.ts';
import { doctorCommand } from './doctor.ts';
import { readManifests } from './documents.ts';
import { runDir } from './environment.ts';
import { codeOf, ExitError, exitCode } from './exit.ts';
import { explainCommand } from './explain.ts';
import { explainOffline } from './explain-offline.ts';
import { flowsCommand } from './flows.ts';
import { ipamCommand } from './ipam.ts';
import { showBgpPeers, showBgpRoutes, showRoutes } from './local.ts';
import { configCommand, statusCommand } from './local-commands.ts';
import { migrateCommand } from './migrate.ts';
import { formatTable, parseFormat, print } from './output.ts';
import { bgpCommand } from './peering.ts';
import { policyCommand } from './policy.ts';
import { aliases, listResources, tableOf, views } from './resources.ts';
import { ignoredFields } from './surprises.ts';
import { validateCommand } from './validate.ts';

interface Scoped {
  readonly namespace: string;
  readonly allNamespaces?: boolean;
  readonly output?: string;
}

/** `margayctl`, the person's side: every command, which `ctl.ts` loads when one needs more than this node's agents. */
export function ctlProgram(): Command {
  const program = new Command('margayctl').description('see and change a Margay cluster');
  program
    .command('apply')
    .description('create or update everything that a YAML or JSON file describes')
    .requiredOption('-f, --filename <file>', 'the file, or - for standard input')
    .option('-n, --namespace <namespace>', 'for objects that name none', 'default')
    .action(apply);
  program
    .command('delete')
    .description('delete what a file describes, or one object')
    .argument('[kind]', 'kind of the object, for example policy')
    .argument('[name]', 'its name')
    .option('-f, --filename <file>', 'a file, or - for standard input')
    .option('-n, --namespace <namespace>', 'namespace of the object', 'default')
    .action(remove);
  const get = program
    .command('get')
    .description(`list objects: ${Object.keys(views).join(', ')}, bgp peers, bgp routes, routes`)
    .argument('<what...>', 'what to list, then perhaps a name')
    .option('-n, --namespace <namespace>', 'namespace of the objects', 'default')
    .option('-A, --all-namespaces', 'objects of every namespace')
    .option('-o, --output <format>', 'json or yaml instead of a table');
  get.action(show);
  program.addCommand(doctorCommand());
  program.addCommand(bgpCommand());
  program.addCommand(explainCommand(explainOffline));
  program.addCommand(flowsCommand());
  program.addCommand(validateCommand());
  program.addCommand(policyCommand());
  program.addCommand(ipamCommand());
  program.addCommand(datastoreCommand());
  program.addCommand(migrateCommand());
  program.addCommand(statusCommand());
  program.addCommand(configCommand());
  return program;
}

async function withStore<T>(action: (deps: Deps) => Promise<T>): Promise<T> {
  const log = createLog('margayctl', process.env['MARGAY_LOG_LEVEL'] || 'error');
  const store: Store = openStore(readStoreConfig(process.env), log);
  try {
    return await action({ store, clock: systemClock, log });
  } finally {
    store.close();
  }
}

/** All documents are checked before the first is written. Those that fail to be written do not stop the others. */
async function apply({ filename, namespace }: { filename: string; namespace: string }): Promise<void> {
  const manifests = readManifests(await readInput(filename), filename === '-' ? 'stdin' : filename, namespace);
  if (manifests.length === 0) throw new InputError('--filename', filename, 'a file with at least one object');
  await withStore(async (deps) => {
    const failures: unknown[] = [];
    for (const manifest of manifests) {
      try {
        const { outcome } = await applyOne(manifest, deps);
        process.stdout.write(`${manifest.title}: ${outcome}\n`);
        for (const { field, problem } of ignoredFields(manifest))
          process.stderr.write(`${manifest.where}: warning: ${field}: ${problem}\n`);
      } catch (thrown) {
        failures.push(thrown);
        process.stderr.write(`${manifest.where}: ${manifest.title}: ${explain(thrown)}\n`);
      }
    }
    const [first] = failures;
    if (first !== undefined)
      throw new ExitError(codeOf(first), `${failures.length} of ${manifests.length} objects were not applied`);
  });
}

async function remove(
  kind: string | undefined,
  name: string | undefined,
  { filename, namespace }: { filename?: string; namespace: string },
): Promise<void> {
  if ((filename === undefined) === (kind === undefined))
    throw new ExitError(exitCode.usage, 'delete takes either -f FILE or KIND NAME');
  if (filename !== undefined) {
    // What no agent could follow is to be deleted all the more.
    const anything = () => [];
    const file = filename === '-' ? 'stdin' : filename;
    const manifests = readManifests(await readInput(filename), file, namespace, anything);
    return withStore(async (deps) => {
      for (const { key, title } of manifests.toReversed()) {
        const there = await deleteOne(key as Parameters<typeof deleteOne>[0], deps);
        process.stdout.write(`${title}: ${there ? 'deleted' : 'was not there'}\n`);
      }
    });
  }
  if (kind === undefined || name === undefined)
    throw new ExitError(exitCode.usage, 'delete KIND NAME: the name is missing');
  const view = viewOf(kind);
  return withStore(async (deps) => {
    const { resources } = await listResources(
      deps.store,
      view,
      kinds[view.kind].namespaced ? namespace : undefined,
      name,
    );
    const [found] = resources;
    if (!found)
      throw new ExitError(
        exitCode.failure,
        `no ${kind} ${name}${kinds[view.kind].namespaced ? ` in namespace ${namespace}` : ''}`,
      );
    const { name: stored, namespace: space } = found.metadata;
    await deleteOne({ type: view.kind, name: stored, ...(space === undefined ? {} : { namespace: space }) }, deps);
    process.stdout.write(`${kind} ${name}: deleted\n`);
  });
}

async function show(what: readonly string[], options: Scoped): Promise<void> {
  const format = parseFormat(options.output);
  const [first = '', second, ...rest] = what;
  if (first === 'routes' && second === undefined) return showRoutes(runDir(process.env), format);
  if (first === 'bgp' && rest.length === 0 && second === 'peers') return showBgpPeers(runDir(process.env), format);
  if (first === 'bgp' && rest.length === 0 && second === 'routes') return showBgpRoutes(runDir(process.env), format);
  if (first === 'bgp') throw new ExitError(exitCode.usage, 'get bgp takes peers or routes');
  if (rest.length > 0) throw new ExitError(exitCode.usage, `get ${first} takes one name at most`);
  const view = viewOf(first);
  const namespaced = kinds[view.kind].namespaced;
  const namespace = namespaced && !options.allNamespaces ? options.namespace : undefined;
  await withStore(async ({ store }) => {
    const { resources, invalid } = await listResources(store, view, namespace, second);
    const named = second === undefined ? '' : ` named ${second}`;
    const empty = `no ${first}${named}${namespace === undefined ? '' : ` in namespace ${namespace}; -A shows all namespaces`}`;
    if (second !== undefined && resources.length === 0) throw new ExitError(exitCode.failure, empty);
    print(format, second === undefined ? { kind: `${view.kind}List`, items: resources } : resources[0], () =>
      formatTable(tableOf(view, resources, namespaced && options.allNamespaces === true), empty),
    );
    for (const { error } of invalid) process.stderr.write(`invalid in the datastore: ${error.message}\n`);
    if (invalid.length > 0) throw new ExitError(exitCode.failure, `${invalid.length} stored objects are invalid`);
  });
}

function viewOf(text: string) {
  const word = text.toLowerCase();
  const view = views[aliases[word] ?? word];
  if (!view)
    throw new ExitError(
      exitCode.usage,
      `unknown kind ${JSON.stringify(text)}; there are ${Object.keys(views).join(', ')}`,
    );
  return view;
}
