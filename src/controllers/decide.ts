import type { Key } from '../datastore/store.ts';
import type { Node } from '../model/kinds.ts';
import type { Action } from './action.ts';
import { copiedTypes, copyAction, endpointAction, isCopied } from './copying.ts';
import {
  autoHostEndpointName,
  belongingsOf,
  hostEndpointAction,
  kubernetesNode,
  labelAction,
  removalActions,
} from './nodes.ts';
import type { Settings } from './settings.ts';
import type { View } from './view.ts';

/** All that decisions go by. */
export interface World {
  readonly settings: Settings;
  /** The datastore. */
  readonly store: View;
  /** Kubernetes, where it is not the datastore itself. */
  readonly cluster: View | undefined;
}

const copied: ReadonlySet<string> = new Set(copiedTypes);

/**
 * What there is to do about keys that changed. Pure, and of the present alone: carried out and told back, the same keys
 * give nothing more to do.
 */
export function actionsFor(key: Key, world: World): Action[] {
  const { settings, store, cluster } = world;
  if (copied.has(key.type)) {
    if (cluster === undefined || !isCopied(key, settings)) return [];
    return some(copyAction(key, cluster.known(key), store.known(key)));
  }
  switch (key.type) {
    case 'WorkloadEndpoint':
      if (cluster === undefined || !settings.copies.endpoints) return [];
      return some(endpointAction(cluster.known(key), store.known(key)));
    case 'Node':
      return settings.nodes ? nodesAbout(key.name, world).flatMap((name) => nodeActions(name, world)) : [];
    case 'HostEndpoint': {
      const found = store.of('HostEndpoint').get(`HostEndpoint/${key.name}`);
      const isOurs = found && key.name === autoHostEndpointName(found.value.spec.node);
      if (isOurs) return settings.nodes ? hostEndpointActions(found.value.spec.node, world) : [];
      // One that is gone may have been a node's.
      const node = key.name.replace(/-auto-hep$/, '');
      return settings.nodes && found === undefined && node !== key.name ? hostEndpointActions(node, world) : [];
    }
    default:
      return [];
  }
}

/** The datastore's nodes that a name of it or of Kubernetes is about. */
function nodesAbout(name: string, { store, cluster }: World): string[] {
  if (cluster === undefined) return [name];
  const referring = [...store.of('Node').values()].filter(({ value }) => kubernetesNode(value) === name);
  return [...new Set([name, ...referring.map(({ key }) => key.name)])];
}

function nodeActions(name: string, world: World): Action[] {
  const { settings, store, cluster } = world;
  const known = store.of('Node').get(`Node/${name}`);
  const reference = known && kubernetesNode(known.value);
  if (known && cluster && reference !== undefined) {
    const original = cluster.known({ type: 'Node', name: reference });
    if (original === undefined) return removalActions(known, reference, belongingsOf(name, store));
    if (settings.syncLabels && 'entry' in original) {
      const action = labelAction(known, original.entry.value as Node);
      // Its host endpoint follows when the labels are there.
      if (action) return [action];
    }
  }
  return hostEndpointActions(name, world);
}

function hostEndpointActions(node: string, { settings, store }: World): Action[] {
  const name = autoHostEndpointName(node);
  const known = store.known({ type: 'Node', name: node });
  // A node that cannot be read keeps what it has.
  if (known && 'invalid' in known) return [];
  const wanted = settings.autoHostEndpoints ? (known?.entry.value as Node | undefined) : undefined;
  return some(hostEndpointAction(name, wanted, store.known({ type: 'HostEndpoint', name })));
}

function some<T>(value: T | undefined): T[] {
  return value === undefined ? [] : [value];
}
