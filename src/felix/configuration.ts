import { explain, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Event, Store } from '../datastore/store.ts';
import { felixFields } from '../model/felix-configuration.ts';
import type { FelixConfiguration } from '../model/kinds.ts';
import { parseSelector } from '../model/selector.ts';
import { isEntry } from './calc/endpoints.ts';
import {
  configOf,
  type Explained,
  explainConfig,
  type FelixConfig,
  type Given,
  type GivenBySetting,
  settingKeys,
  settingNames,
  settings,
} from './config.ts';
import { nearest } from './nearest.ts';
import { withoutEffect } from './without-effect.ts';

/** A line of `GET /v1/config`. */
export interface ConfigLine {
  readonly name: string;
  readonly value: FelixConfig[keyof FelixConfig];
  readonly origin: string;
  /** What stands in the datastore or environment and waits for a restart. */
  readonly afterRestart?: FelixConfig[keyof FelixConfig];
}

const annotationPrefix = 'config.projectcalico.org/';

/**
 * The configuration of one node with Calico's precedence: environment, the resource `node.<name>`, resources whose
 * nodeSelector picks the node (the first by name), `default`, built-in. In a resource an annotation
 * `config.projectcalico.org/<setting>` beats the field. Restart-only settings stay as they were at the start.
 */
export class Configuration {
  readonly #resources = new Map<string, FelixConfiguration>();
  readonly #warned = new Set<string>();
  /** Something was told since settings were last looked at. */
  #told = false;
  #labels: Readonly<Record<string, string>> = {};
  #wanted: Explained;
  #inForce: Explained;

  /** @throws InputError for the environment's own faults */
  constructor(
    private readonly node: string,
    private readonly environment: GivenBySetting,
    private readonly log: Log,
  ) {
    this.#wanted = explainConfig([environment]);
    this.#inForce = this.#wanted;
  }

  get current(): FelixConfig {
    return configOf(this.#inForce);
  }

  /** Settings, values and origins, in order of their names. */
  lines(): ConfigLine[] {
    return settingNames
      .map((key): ConfigLine => {
        const { value, origin } = this.#inForce[key];
        const wanted = this.#wanted[key];
        const waits = settings[key].fixed === true && wanted.value !== value;
        return { name: settings[key].field, value, origin, ...(waits && { afterRestart: wanted.value }) };
      })
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Takes FelixConfiguration and Node events; one that is invalid leaves the last good form in force. */
  apply(event: Event): void {
    if (event.op === 'invalid') return;
    const key = event.op === 'set' ? event.entry.key : event.key;
    if (key.type === 'Node' || key.type === 'FelixConfiguration') this.#told = true;
    if (key.type === 'Node' && key.name === this.node) {
      this.#labels =
        event.op === 'set' && isEntry(event.entry, 'Node') ? (event.entry.value.metadata.labels ?? {}) : {};
    } else if (key.type === 'FelixConfiguration') {
      if (event.op === 'set' && isEntry(event.entry, 'FelixConfiguration')) {
        this.#resources.set(key.name, event.entry.value);
        this.#warnUnknown(key.name, event.entry.value);
      } else this.#resources.delete(key.name);
    }
  }

  /**
   * Reads the resources before the agent starts, so that restart-only settings are right from the start.
   * @throws StoreUnavailableError
   */
  async load(store: Store): Promise<void> {
    const [node, { entries }] = await Promise.all([
      store.get({ type: 'Node', name: this.node }),
      store.list('FelixConfiguration'),
    ]);
    for (const entry of [...(node ? [node] : []), ...entries]) this.apply({ op: 'set', entry });
    this.#wanted = this.#explain();
    this.#inForce = this.#wanted;
  }

  /** Puts into force what may change while running. @returns the names of the settings that changed */
  refresh(): (keyof FelixConfig)[] {
    if (!this.#told) return [];
    this.#told = false;
    const before = this.#wanted;
    const now = this.#explain();
    this.#wanted = now;
    for (const key of settingNames.filter((one) => settings[one].fixed)) {
      const { value, origin } = now[key];
      if (value === before[key].value || value === this.#inForce[key].value) continue;
      const facts = { setting: settings[key].field, value, origin, inForce: this.#inForce[key].value };
      this.log.warn(facts, 'this setting changes at the next start of felix: restart it');
    }
    const last = this.#inForce;
    const next = Object.fromEntries(
      settingNames.map((key) => {
        const waits = settings[key].fixed === true && now[key].value !== last[key].value;
        return [key, waits ? last[key] : now[key]];
      }),
    ) as Explained;
    this.#inForce = next;
    const changed = settingNames.filter((key) => next[key].value !== last[key].value);
    for (const key of changed)
      this.log.info({ setting: settings[key].field, ...next[key], before: last[key].value }, 'setting changed');
    return changed;
  }

  /** A fault in a resource leaves its source out, and is logged once. */
  #explain(): Explained {
    const good = this.#inOrder().filter((source) => {
      try {
        explainConfig([source]);
        return true;
      } catch (thrown) {
        if (!(thrown instanceof InputError)) throw thrown;
        this.#warnOnce(thrown.message, { error: explain(thrown) }, 'FelixConfiguration left out');
        return false;
      }
    });
    return explainConfig([this.environment, ...good]);
  }

  #inOrder(): GivenBySetting[] {
    const named = [...this.#resources].sort(([a], [b]) => (a < b ? -1 : 1));
    const selected = named.filter(
      ([name, { spec }]) => name !== 'default' && !name.startsWith('node.') && this.#selects(name, spec.nodeSelector),
    );
    const own = this.#resources.get(`node.${this.node}`);
    const common = this.#resources.get('default');
    return [...(own ? [own] : []), ...selected.map(([, resource]) => resource), ...(common ? [common] : [])].map(given);
  }

  #selects(name: string, text: string | undefined): boolean {
    if (text === undefined) return false;
    const field = `FelixConfiguration(${name}).spec.nodeSelector`;
    try {
      return parseSelector(text, field).matches(this.#labels);
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      this.#warnOnce(thrown.message, { error: explain(thrown) }, 'FelixConfiguration left out');
      return false;
    }
  }

  #warnUnknown(name: string, { spec }: FelixConfiguration): void {
    const known = [...Object.keys(felixFields), 'nodeSelector'];
    for (const [field, value] of Object.entries(spec)) {
      if (known.includes(field) || value === undefined || value === null) continue;
      const what = withoutEffect(field, value);
      const near = what === 'missed' ? undefined : nearest(field, known);
      if (what === 'harmless' && near === undefined) continue;
      const facts = { resource: name, field, ...(near && { didYouMean: near }), ...(what === 'missed' && { value }) };
      const whose = what === 'missed' ? "Calico's" : 'unknown';
      this.#warnOnce(`${name} ${field}`, facts, `${whose} setting of FelixConfiguration has no effect`);
    }
  }

  #warnOnce(id: string, facts: object, message: string): void {
    if (this.#warned.has(id)) return;
    this.#warned.add(id);
    this.log.warn(facts, message);
  }
}

/** As the environment would have it; a list of ports as `tcp:22,udp:68`. */
function textOf(value: unknown): string {
  if (!Array.isArray(value)) return String(value);
  if (value.length > 0 && value.every((one) => typeof one === 'string')) return value.join(',');
  const ports = value as readonly { readonly protocol: string; readonly port: number; readonly net?: string }[];
  const one = ({ protocol, port, net }: (typeof ports)[number]) => `${protocol}:${net ? `[${net}]:` : ''}${port}`;
  return ports.length === 0 ? 'none' : ports.map(one).join(',');
}

/** What a resource says, annotations over fields. */
function given({ metadata, spec }: FelixConfiguration): GivenBySetting {
  const origin = `FelixConfiguration ${metadata.name}`;
  const found = new Map<string, Given>();
  for (const field of Object.keys(felixFields)) {
    const value = (spec as Readonly<Record<string, unknown>>)[field];
    if (value === undefined || value === '') continue;
    const name = `FelixConfiguration(${metadata.name}).spec.${field}`;
    found.set(field.toUpperCase(), { text: textOf(value), origin, name });
  }
  for (const [annotation, text] of Object.entries(metadata.annotations ?? {})) {
    if (!annotation.startsWith(annotationPrefix) || text.trim() === '') continue;
    const name = `FelixConfiguration(${metadata.name}).metadata.annotations.${annotation}`;
    const upper = annotation.slice(annotationPrefix.length).toUpperCase();
    found.set(settingKeys.get(upper) ?? upper, { text: text.trim(), origin: `${origin}, annotation`, name });
  }
  return found;
}
