import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { errorCode, explain, InputError } from '../../base/errors.ts';
import { type Cidr, type Ip, parseCidr, parseIp } from '../../model/address.ts';
import type { Attachment, Configuration, Reservation } from './facts.ts';

/* Reads what other plugins and the runtime have left on the node. Nothing here is written. */

export interface Read<T> {
  readonly found: readonly T[];
  /** What could not be understood, in words. */
  readonly faults: readonly string[];
}

/** More than a node has pods; a folder of more files is none of host-local's. */
const mostFiles = 100_000;

/** host-local's own files beside the addresses. */
const ownFiles = /^(lock|last_reserved_ip\..*)$/;

/** Every reservation below host-local's folder, whose subfolders are networks. A folder that is not there is empty. */
export async function readReservations(folder: string): Promise<Read<Reservation>> {
  const found: Reservation[] = [];
  const faults: string[] = [];
  for (const network of await namesIn(folder))
    for (const file of await namesIn(join(folder, network))) {
      if (ownFiles.test(file)) continue;
      const path = join(folder, network, file);
      const text = await textOf(path);
      if (text === undefined) continue;
      try {
        found.push(parseReservation(network, file, text, path));
      } catch (thrown) {
        if (!(thrown instanceof InputError)) throw thrown;
        faults.push(explain(thrown));
      }
    }
  return { found, faults };
}

/** The name is the address; the container and its device are lines. @throws InputError */
export function parseReservation(network: string, file: string, text: string, path: string): Reservation {
  const address: Ip = parseIp(file, path);
  const [containerId = '', ifName] = text
    .trim()
    .split(/\r?\n/)
    .map((line) => line.trim());
  if (!/^[A-Za-z0-9][\w.-]{0,254}$/.test(containerId)) throw new InputError(path, containerId, 'the ID of a container');
  if (ifName !== undefined && !/^[^\s/]{1,15}$/.test(ifName)) throw new InputError(path, ifName, "a device's name");
  return { network, address, containerId, ...(ifName && { ifName }) };
}

const cached = z.looseObject({
  kind: z.literal('cniCacheV1'),
  containerId: z.string(),
  ifName: z.string(),
  networkName: z.string(),
  cniArgs: z.array(z.array(z.string())).nullish(),
  result: z
    .looseObject({
      interfaces: z.array(z.looseObject({ name: z.string(), sandbox: z.string().optional() })).nullish(),
    })
    .nullish(),
});

/** Every attachment that libcni remembers. A folder that is not there is empty. */
export async function readAttachments(folder: string): Promise<Read<Attachment>> {
  const found: Attachment[] = [];
  const faults: string[] = [];
  for (const file of await namesIn(folder)) {
    const path = join(folder, file);
    const text = await textOf(path);
    if (text === undefined) continue;
    const attachment = parseAttachment(text);
    if (attachment === undefined) faults.push(`${path}: not an attachment as libcni remembers it`);
    else found.push(attachment);
  }
  return { found, faults };
}

/** libcni's cache of one attachment; undefined for anything else. */
export function parseAttachment(text: string): Attachment | undefined {
  const parsed = cached.safeParse(jsonOf(text));
  if (!parsed.success) return undefined;
  const { containerId, ifName, networkName: network, cniArgs, result } = parsed.data;
  const args = new Map((cniArgs ?? []).map(([name = '', value = '']) => [name, value]));
  const [namespace, pod] = [args.get('K8S_POD_NAMESPACE'), args.get('K8S_POD_NAME')];
  const netns = result?.interfaces?.find(({ name, sandbox }) => name === ifName && sandbox)?.sandbox;
  return {
    network,
    containerId,
    ifName,
    ...(namespace && { namespace }),
    ...(pod && { pod }),
    ...(netns && { netns }),
  };
}

/** The configuration that a runtime takes; undefined when there is none that can be read. */
export async function readConfiguration(folder: string): Promise<Configuration | undefined> {
  for (const file of await namesIn(folder)) {
    if (!/\.(conflist|conf|json)$/.test(file)) continue;
    const text = await textOf(join(folder, file));
    const found = text === undefined ? undefined : (jsonOf(text) as Conf | null | undefined);
    const types = (found?.plugins ?? [found]).flatMap((plugin) =>
      typeof plugin?.type === 'string' ? plugin.type : [],
    );
    if (typeof found?.name !== 'string' || types.length === 0) continue;
    const hostLocal = (found.plugins ?? [found]).some((plugin) => plugin.ipam?.type === 'host-local');
    return { file, network: found.name, types, ...(hostLocal && { hostLocal }) };
  }
  return undefined;
}

interface Conf {
  readonly name?: unknown;
  readonly type?: unknown;
  readonly ipam?: { readonly type?: unknown };
  readonly plugins?: readonly { readonly type?: unknown; readonly ipam?: { readonly type?: unknown } }[];
}

/** FLANNEL_SUBNET of flannel's environment file, such as /run/flannel/subnet.env; undefined without one. */
export async function readFlannelSubnet(path: string): Promise<Cidr | undefined> {
  const text = await textOf(path);
  const subnet = text === undefined ? undefined : /^FLANNEL_SUBNET=(\S+)$/m.exec(text)?.[1];
  return subnet === undefined ? undefined : parseCidr(subnet, `${path}: FLANNEL_SUBNET`);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return undefined;
    throw thrown;
  }
}

/** Names in a folder in the order of the alphabet; none in one that is not there. @throws InputError */
async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    const names = await readdir(folder);
    if (names.length > mostFiles) throw new InputError(folder, `${names.length} files`, `at most ${mostFiles}`);
    return names.sort();
  } catch (thrown) {
    const code = errorCode(thrown);
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    if (code === undefined) throw thrown;
    throw new InputError(folder, code, 'a folder that can be read', { cause: thrown });
  }
}

/** Undefined for what has gone meanwhile, or is no file. */
async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (thrown) {
    const code = errorCode(thrown);
    if (code === 'ENOENT' || code === 'EISDIR' || code === 'ENOTDIR') return undefined;
    if (code === undefined) throw thrown;
    throw new InputError(path, code, 'a file that can be read', { cause: thrown });
  }
}
