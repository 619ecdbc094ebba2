import type { Key, Type, Value } from '../datastore/store.ts';
import { keyText } from '../datastore/store.ts';
import type { Cidr, Ip } from '../model/address.ts';

/** Why an object is written or removed, as the log and the metrics say it. */
export type Reason =
  | 'copy'
  | 'labels'
  | 'hostEndpoint'
  | 'nodeGone'
  | 'podGone'
  | 'leak'
  | 'orphanedHandle'
  | 'orphanedAffinity'
  | 'assignService'
  | 'releaseService';

/** Who an address was given to, as far as the block says. */
export interface Holder {
  readonly node?: string;
  readonly namespace?: string;
  readonly pod?: string;
}

/** One decision. Each is conditional on what it was decided by, so that a change meanwhile makes it void. */
export type Action =
  | { readonly do: 'create'; readonly why: Reason; readonly key: Key; readonly value: Value<Type> }
  | {
      readonly do: 'update';
      readonly why: Reason;
      readonly key: Key;
      readonly value: Value<Type>;
      readonly revision: string;
    }
  | {
      readonly do: 'delete';
      readonly why: Reason;
      readonly key: Key;
      /** Undefined: what is there cannot be read, and has none. */
      readonly revision: string | undefined;
      /** Only while Kubernetes has no node of this name. */
      readonly unlessNode?: string;
      /** Only while Kubernetes has nothing under this key either. */
      readonly unlessOriginal?: true;
    }
  | {
      readonly do: 'releaseAddress';
      readonly why: 'leak';
      readonly address: Ip;
      readonly handle?: string;
      readonly sequence?: bigint;
      readonly holder: Holder;
      /** Freed only while the datastore has no node of this name. */
      readonly unlessNode?: string;
      readonly detail: string;
    }
  | {
      readonly do: 'releaseAffinity';
      readonly why: 'orphanedAffinity';
      readonly host: string;
      readonly cidr: Cidr;
      readonly unlessNode: string;
    };

/** What an action is about, in a word for the log. */
export function subjectOf(action: Action): string {
  if (action.do === 'releaseAddress') return action.address;
  if (action.do === 'releaseAffinity') return `${action.cidr} of ${action.host}`;
  return keyText(action.key);
}
