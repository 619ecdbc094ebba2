import { spawn } from 'node:child_process';
import path from 'node:path';
import { InputError, show } from '../base/errors.ts';

/*
 * A CNI client as a container runtime has it (CNI specification, sections 3 and 4): it runs the plugins of one network
 * configuration list in their order, DEL in the reverse, and hands each the result of the one before. It keeps nothing:
 * the caller gives back the result of ADD to CHECK and DEL.
 */

/** A network configuration list, as in /etc/cni/net.d. */
export interface Conflist {
  readonly cniVersion: string;
  readonly name: string;
  readonly plugins: readonly ({ readonly type: string } & Readonly<Record<string, unknown>>)[];
}

/** What ADD answers; more fields than these are kept. */
export interface CniResult {
  readonly cniVersion: string;
  readonly interfaces?: readonly { readonly name: string; readonly mac?: string; readonly sandbox?: string }[];
  readonly ips?: readonly { readonly address: string; readonly interface?: number; readonly gateway?: string }[];
  readonly routes?: readonly { readonly dst: string; readonly gw?: string }[];
}

export interface CniCall {
  readonly conflist: Conflist;
  /** Folder with the plugin executables. */
  readonly pluginDir: string;
  readonly containerId: string;
  /** Path of the pod's network namespace; DEL may go without. */
  readonly netns?: string;
  readonly ifName: string;
  /** `CNI_ARGS`: `K8S_POD_NAMESPACE` and so on. */
  readonly args?: Readonly<Record<string, string>>;
  /** The pod's labels, given to the plugins as `args.cni.labels`. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly prevResult?: CniResult;
  /** Added to the plugins' environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** A plugin ended with an error object, or with nothing that can be read. */
export class CniPluginError extends Error {
  override readonly name = 'CniPluginError';
  constructor(
    readonly plugin: string,
    readonly verb: string,
    /** The specification's code; undefined when the plugin printed no error object. */
    readonly code: number | undefined,
    message: string,
    readonly details = '',
  ) {
    super(`${plugin} ${verb}: ${message}${details === '' ? '' : ` (${details})`}`);
  }
}

/** @throws CniPluginError; the plugins before the failed one are not undone: call `delNetwork`, as runtimes do */
export async function addNetwork(call: CniCall): Promise<CniResult> {
  let result: CniResult | undefined = call.prevResult;
  for (const plugin of call.conflist.plugins) {
    const answer = await invoke(call, 'ADD', plugin, result);
    if (answer === undefined) throw new CniPluginError(plugin.type, 'ADD', undefined, 'no result on standard output');
    result = answer as unknown as CniResult;
  }
  if (result === undefined) throw new InputError('plugins', call.conflist.plugins, 'at least one plugin');
  return result;
}

/**
 * DEL of the conflist's plugins, the last first, each with the result that ADD gave. CNI spec 1.1, section 3. @throws
 * CniPluginError of the first that fails
 */
export async function delNetwork(call: CniCall): Promise<void> {
  for (const plugin of call.conflist.plugins.toReversed()) await invoke(call, 'DEL', plugin, call.prevResult);
}

/** @throws CniPluginError when something is not as ADD left it */
export async function checkNetwork(call: CniCall): Promise<void> {
  for (const plugin of call.conflist.plugins) await invoke(call, 'CHECK', plugin, call.prevResult);
}

/** Removes what the plugins hold for containers that are not among `valid`. */
export async function gcNetwork(
  call: CniCall & { readonly valid: readonly { readonly containerID: string; readonly ifname: string }[] },
): Promise<void> {
  for (const plugin of call.conflist.plugins) {
    await invoke(call, 'GC', { ...plugin, 'cni.dev/valid-attachments': call.valid }, undefined);
  }
}

/** Asks each plugin whether it could do an ADD now. @throws CniPluginError with its answer when one could not */
export async function networkStatus(call: CniCall): Promise<void> {
  for (const plugin of call.conflist.plugins) await invoke(call, 'STATUS', plugin, undefined);
}

/** One run of one plugin. */
async function invoke(
  call: CniCall,
  verb: string,
  plugin: Conflist['plugins'][number],
  prevResult: CniResult | undefined,
): Promise<Record<string, unknown> | undefined> {
  if (!/^[^/\0]+$/.test(plugin.type)) throw new InputError('plugins.type', plugin.type, 'the file name of a plugin');
  const stdin = JSON.stringify(configurationFor(call, plugin, prevResult));
  const { code, stdout, stderr } = await run(plugin.type, environmentFor(call, verb), stdin, call);
  const answer = readObject(stdout);
  if (code === 0 && (answer !== undefined || stdout.trim() === '')) return answer;
  const message = typeof answer?.['msg'] === 'string' ? answer['msg'] : `exit code ${code}: ${show(stdout || stderr)}`;
  const details = typeof answer?.['details'] === 'string' ? answer['details'] : stderr.trim();
  const errorNumber = typeof answer?.['code'] === 'number' ? answer['code'] : undefined;
  throw new CniPluginError(plugin.type, verb, errorNumber, message, details);
}

/** What the plugin reads: its own entry with the list's name and version, and what the runtime adds. */
export function configurationFor(
  { conflist, labels }: Pick<CniCall, 'conflist' | 'labels'>,
  plugin: Conflist['plugins'][number],
  prevResult: CniResult | undefined,
): Record<string, unknown> {
  const list = Object.entries(labels ?? {}).map(([key, value]) => ({ key, value }));
  const args = (plugin['args'] ?? {}) as { cni?: Record<string, unknown> };
  return {
    ...plugin,
    name: conflist.name,
    cniVersion: conflist.cniVersion,
    ...(list.length > 0 && { args: { ...args, cni: { ...args.cni, labels: list } } }),
    ...(prevResult && { prevResult }),
  };
}

function environmentFor(call: CniCall, verb: string): Record<string, string | undefined> {
  const args = Object.entries(call.args ?? {}).map(([key, value]) => `${key}=${value}`);
  return {
    ...process.env,
    ...call.env,
    CNI_COMMAND: verb,
    CNI_CONTAINERID: call.containerId,
    CNI_NETNS: call.netns,
    CNI_IFNAME: call.ifName,
    CNI_ARGS: args.join(';'),
    CNI_PATH: call.pluginDir,
  };
}

interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(type: string, env: Record<string, string | undefined>, stdin: string, call: CniCall): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(path.join(call.pluginDir, type), [], { env, ...(call.signal && { signal: call.signal }) });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.once('error', reject);
    // A plugin that ends without reading its input is told by its exit code.
    child.stdin.once('error', (error) => err.push(Buffer.from(`standard input: ${error.message}\n`)));
    child.once('close', (code) =>
      resolve({ code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() }),
    );
    child.stdin.end(stdin);
  });
}

function readObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return undefined;
    throw thrown;
  }
}
