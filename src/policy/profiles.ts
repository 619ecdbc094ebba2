import type { Profile } from '../model/kinds.ts';
import { apiVersion } from '../model/resource.ts';
import { type CompiledRules, compileProfile } from './compile.ts';
import type { PolicyRules } from './ir.ts';
import type { LabelMap } from './labels.ts';
import type { SetRequest } from './members.ts';

interface Known {
  readonly compiled: CompiledRules;
  readonly labels: LabelMap;
}

/** Exists in every cluster, for host endpoints that are made for labels alone. */
const allowAll: Profile = {
  kind: 'Profile',
  apiVersion,
  metadata: { name: 'projectcalico-default-allow' },
  spec: { ingress: [{ action: 'Allow' }], egress: [{ action: 'Allow' }] },
};

/** Where sets are asked for and given back. */
export interface SetUser {
  retain(request: SetRequest): void;
  release(request: SetRequest): void;
}

/** Profiles, and which of them local endpoints use; only those hold IP sets. */
export class ProfileTable {
  readonly #known = new Map<string, Known>();
  readonly #users = new Map<string, number>();
  #snapshot: ReadonlyMap<string, PolicyRules> | undefined;

  constructor(private readonly sets: SetUser) {
    this.#known.set(allowAll.metadata.name, { compiled: compileProfile(allowAll), labels: new Map() });
  }

  labels(name: string): LabelMap | undefined {
    return this.#known.get(name)?.labels;
  }

  /** Returns the compiled profile. The built-in one cannot be changed. */
  set(name: string, given: Profile): CompiledRules {
    const profile = name === allowAll.metadata.name ? allowAll : given;
    const before = this.#known.get(name);
    const fresh = compileProfile(profile);
    const compiled = before && sameRules(before.compiled.rules, fresh.rules) ? before.compiled : fresh;
    this.#known.set(name, { compiled, labels: new Map(Object.entries(profile.spec.labelsToApply ?? {})) });
    if (this.#users.has(name) && compiled !== before?.compiled) this.#change(before?.compiled, compiled);
    return compiled;
  }

  delete(name: string): void {
    if (name === allowAll.metadata.name) return;
    const before = this.#known.get(name);
    this.#known.delete(name);
    if (this.#users.has(name)) this.#change(before?.compiled, undefined);
  }

  retain(name: string): void {
    const users = this.#users.get(name) ?? 0;
    this.#users.set(name, users + 1);
    if (users === 0) this.#change(undefined, this.#known.get(name)?.compiled);
  }

  release(name: string): void {
    const users = (this.#users.get(name) ?? 0) - 1;
    if (users > 0) {
      this.#users.set(name, users);
      return;
    }
    this.#users.delete(name);
    this.#change(this.#known.get(name)?.compiled, undefined);
  }

  snapshot(): ReadonlyMap<string, PolicyRules> {
    this.#snapshot ??= new Map(
      [...this.#users.keys()].flatMap((name) => {
        const rules = this.#known.get(name)?.compiled.rules;
        return rules ? [[name, rules] as const] : [];
      }),
    );
    return this.#snapshot;
  }

  /** New sets are held before old ones go, so that a shared one stays as it is. */
  #change(before: CompiledRules | undefined, after: CompiledRules | undefined): void {
    if (before === after) return;
    for (const request of after?.requests ?? []) this.sets.retain(request);
    for (const request of before?.requests ?? []) this.sets.release(request);
    this.#snapshot = undefined;
  }
}

/** Whether two compilations gave the same rules, so that the older object can stay. */
export function sameRules(a: PolicyRules, b: PolicyRules): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
