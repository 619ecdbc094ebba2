/** The envelope of every `projectcalico.org/v3` object. */

export interface Metadata {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly creationTimestamp?: string;
  /** Revision in the datastore, decimal text; never stored in the object itself. */
  readonly resourceVersion?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface Resource<K extends string = string, S = unknown> {
  readonly kind: K;
  readonly apiVersion: 'projectcalico.org/v3';
  readonly metadata: Metadata;
  readonly spec: S;
}

/** Name of the API group and version of every v3 resource. */
export const apiVersion = 'projectcalico.org/v3';
