import type { Entry, InvalidEntry, Key, Type, Value } from '../store.ts';
import type { ApiObject, ApiResource, Place } from './resources.ts';

/**
 * One kind of object in the API that stands for one type of the store; a type may have several (a Profile is a
 * namespace or a service account), and a resource may stand for several types.
 */
export interface Source {
  readonly type: Type;
  readonly resource: ApiResource;
  /** Objects of this source change for reasons that are no matter here; its revisions carry a digest. */
  readonly digest?: boolean;
  /** Where a key's object lies; undefined for a key of another source. @throws InputError */
  place(key: Key): Place | undefined;
  /** The key of an object; undefined when it stands for none. */
  keyOf(object: ApiObject): Key | undefined;
  /** The value of an object that has a key; undefined when it is there but counts as gone. @throws InputError */
  read(object: ApiObject, key: Key): Value<Type> | undefined;
  /** How the store changes it; absent where others do. */
  readonly writer?: Writer;
  /** The same of an earlier version of the API, for servers that lack this one. */
  readonly older?: Source;
}

/** `replace`: the store owns the whole object. `annotate`: others own it, and the store patches what is its own. */
export type Writer =
  | {
      readonly by: 'replace';
      /** The whole object for POST or PUT, without resourceVersion. @throws InputError */
      write(key: Key, value: Value<Type>): ApiObject;
      /** The object marked as deleted, which is written before it is removed. */
      mark?(object: ApiObject): ApiObject;
    }
  | {
      readonly by: 'annotate';
      /** Annotations to set (null removes) on `/status`, which nodes may write. @throws InputError */
      annotations(key: Key, value: Value<Type>): Readonly<Record<string, string | null>>;
      /** Annotations that make the object stand for nothing; absent where that cannot be. */
      readonly cleared?: Readonly<Record<string, string | null>>;
    };

/** What an object is to the store: a value, an unreadable one, or nothing. */
export type Reading =
  | { readonly is: 'set'; readonly entry: Entry }
  | { readonly is: 'invalid'; readonly entry: InvalidEntry }
  | { readonly is: 'gone'; readonly key: Key }
  | { readonly is: 'none' };
