import type { KeyOf } from '../datastore/store.ts';
import { endpointName } from '../model/endpoint-name.ts';
import type { Block } from '../model/ipam.ts';
import type { Node, WorkloadEndpoint } from '../model/kinds.ts';
import type { Item } from './dump.ts';

/*
 * In etcd a node may have another name than Kubernetes has for it, which its `orchRefs` tell. In the Kubernetes API it
 * can only have that one, so whatever names the node is renamed.
 */

/** Handles of tunnel addresses end with the node's name. */
const tunnelHandle = /^((?:ipip|vxlan|vxlan-v6|wireguard|wireguard-v6)-tunnel-addr-)(.+)$/;

/** Node's name in the dump → its name in Kubernetes, of those that differ. */
export function renamedNodes(items: readonly Item[]): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  for (const { key, value } of items) {
    if (key.type !== 'Node') continue;
    const { orchRefs = [] } = (value as Node).spec;
    const found = orchRefs.find(({ orchestrator, nodeName }) => orchestrator === 'k8s' && nodeName);
    if (found?.nodeName && found.nodeName !== key.name) names.set(key.name, found.nodeName);
  }
  return names;
}

/** The items under Kubernetes' names of their nodes. Pure. */
export function withKubernetesNames(items: readonly Item[]): readonly Item[] {
  const names = renamedNodes(items);
  return names.size === 0 ? items : items.map((item) => renamed(item, names));
}

function renamed(item: Item, names: ReadonlyMap<string, string>): Item {
  const { key } = item;
  switch (key.type) {
    case 'Node':
      return withName(item, names.get(key.name));
    case 'FelixConfiguration':
    case 'BGPConfiguration': {
      const name = key.name.startsWith('node.') ? names.get(key.name.slice('node.'.length)) : undefined;
      return withName(item, name && `node.${name}`);
    }
    case 'HostEndpoint':
    case 'BGPPeer':
      return withNode(item, names);
    case 'WorkloadEndpoint': {
      const { spec } = item.value as WorkloadEndpoint;
      const name = names.get(spec.node);
      if (name === undefined) return item;
      const pod = spec.orchestrator === 'k8s' ? spec.pod : undefined;
      return withName(withNode(item, names), pod && endpointName(name, pod, spec.endpoint));
    }
    case 'BlockAffinity':
      return { ...item, key: { ...key, host: names.get(key.host) ?? key.host } };
    case 'Handle':
      return { ...item, key: { ...key, id: handleOf(key.id, names) } };
    case 'Block':
      return { key, value: blockOf(item.value as Block, names) };
    default:
      return item;
  }
}

function withName(item: Item, name: string | undefined): Item {
  if (name === undefined) return item;
  const key = { ...item.key, name } as KeyOf<'Node'>;
  const value = item.value as Node;
  return { key, value: { ...value, metadata: { ...value.metadata, name } } };
}

function withNode(item: Item, names: ReadonlyMap<string, string>): Item {
  // HostEndpoint, BGPPeer and WorkloadEndpoint name their node alike.
  const value = item.value as WorkloadEndpoint;
  const node = names.get(value.spec.node);
  return node === undefined ? item : { ...item, value: { ...value, spec: { ...value.spec, node } } };
}

function handleOf(id: string, names: ReadonlyMap<string, string>): string {
  const [, prefix = '', node = ''] = tunnelHandle.exec(id) ?? [];
  const name = names.get(node);
  return name === undefined ? id : prefix + name;
}

function blockOf(block: Block, names: ReadonlyMap<string, string>): Block {
  const owner = names.get(block.affinity?.replace(/^host:/, '') ?? '');
  const attributes = block.attributes?.map((attribute) => {
    const node = names.get(attribute.secondary?.['node'] ?? '');
    return {
      ...attribute,
      ...(attribute.handle_id && { handle_id: handleOf(attribute.handle_id, names) }),
      ...(node !== undefined && { secondary: { ...attribute.secondary, node } }),
    };
  });
  return { ...block, ...(owner !== undefined && { affinity: `host:${owner}` }), attributes: attributes ?? null };
}
