import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { subjectOf } from '../../../src/controllers/action.ts';
import { Auditor } from '../../../src/controllers/auditor.ts';
import { Controllers } from '../../../src/controllers/controllers.ts';
import { LoadBalancers } from '../../../src/controllers/load-balancers.ts';
import { ControllerMetrics } from '../../../src/controllers/metrics.ts';
import { Performer } from '../../../src/controllers/perform.ts';
import { readSettings } from '../../../src/controllers/settings.ts';
import { createMemoryStore, type MemoryStore } from '../../../src/datastore/memory.ts';
import { type Entry, type Key, StoreUnavailableError } from '../../../src/datastore/store.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { parseKubernetes } from '../../../src/model/kubernetes.ts';
import { ManualClock } from '../../support/manual-clock.ts';

/* The leader's loop, on a datastore that fails on demand. */

let clock: ManualClock;
let store: MemoryStore;
let controllers: Controllers;
let refuse: ((subject: string) => Error | undefined) | undefined;
let over: AbortController;
let leading: Promise<void>;
let metrics: ControllerMetrics;
const log = createLog('test', 'silent');

beforeEach(() => {
  clock = new ManualClock();
  store = createMemoryStore();
  refuse = undefined;
  metrics = new ControllerMetrics();
  const performer = new Performer({ store, cluster: createMemoryStore(), clock, log });
  const perform = performer.perform.bind(performer);
  performer.perform = async (action) => {
    const error = refuse?.(subjectOf(action));
    if (error) throw error;
    return perform(action);
  };
  const { settings } = readSettings({});
  const auditor = new Auditor({ store, clock, log, metrics });
  const loadBalancers = new LoadBalancers({ store, cluster: createMemoryStore(), clock, log, metrics });
  controllers = new Controllers({
    ...{ performer, auditor, loadBalancers, metrics, clock, log },
    settings: () => settings,
    copies: true,
  });
  over = new AbortController();
  leading = controllers.lead(over.signal);
});
afterEach(async () => {
  over.abort();
  await leading;
});

function namespaces(...names: string[]): void {
  const entries = names.map((name): Entry => {
    const value = parseKubernetes({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
    return { key: { type: 'Profile', name: `kns.${name}` } as Key, value, revision: '1' } as unknown as Entry;
  });
  controllers.cluster?.consume({ op: 'events', events: entries.map((entry) => ({ op: 'set', entry })) });
}

function locked(isLocked: boolean): void {
  const key = { type: 'ClusterInformation', name: 'default' } as const;
  const resource = { kind: key.type, apiVersion: 'projectcalico.org/v3', metadata: { name: key.name } };
  const value = parseResource('ClusterInformation', { ...resource, spec: { datastoreReady: !isLocked } });
  controllers.store.consume({ op: 'events', events: [{ op: 'set', entry: { key, value, revision: '1' } }] });
}

function inSync(): void {
  for (const view of [controllers.store, controllers.cluster]) view?.consume({ op: 'inSync' });
}

/** Lets time pass, and everything happen that it brings. */
async function pass(milliseconds: number): Promise<void> {
  for (let left = milliseconds; left > 0; left -= 50) {
    await setImmediate();
    clock.advance(50);
    await setImmediate();
  }
}

const copies = async () => (await store.list('Profile')).entries.map(({ key }) => key.name).sort();

test('nothing is done before everything is known, and then what there is to do', async () => {
  namespaces('a', 'b');
  controllers.store.consume({ op: 'inSync' });
  await pass(1000);
  expect(controllers.ready).toBe(false);
  expect(await copies()).toEqual([]);
  controllers.cluster?.consume({ op: 'inSync' });
  await pass(200);
  expect(await copies()).toEqual(['kns.a', 'kns.b']);
});

test('while the datastore is locked nothing is written, and afterwards what was left', async () => {
  locked(true);
  namespaces('a');
  inSync();
  await pass(1000);
  expect(await copies()).toEqual([]);
  locked(false);
  await pass(200);
  expect(await copies()).toEqual(['kns.a']);
});

test('what cannot be done holds nothing else up, and is tried again with growing pauses', async () => {
  let tries = 0;
  refuse = (subject) => {
    if (subject !== 'Profile/kns.b') return undefined;
    tries++;
    return new Error('refused');
  };
  namespaces('a', 'b', 'c');
  inSync();
  await pass(200);
  expect(await copies()).toEqual(['kns.a', 'kns.c']);
  await pass(60_000);
  expect(tries).toBeGreaterThan(3);
  expect(tries).toBeLessThan(12);
  refuse = undefined;
  await pass(31_000);
  expect(await copies()).toEqual(['kns.a', 'kns.b', 'kns.c']);
});

test('a datastore that is away is waited for, with everything still to do', async () => {
  refuse = () => new StoreUnavailableError('away');
  namespaces('a', 'b', 'c');
  inSync();
  await pass(5000);
  expect(await copies()).toEqual([]);
  refuse = undefined;
  await pass(31_000);
  expect(await copies()).toEqual(['kns.a', 'kns.b', 'kns.c']);
  expect(controllers.hangs).toBe(false);
});

test('an audit that fails is made again soon, and not after the period', async () => {
  const audited = async () => {
    const { values = [] } =
      (await metrics.registry.getSingleMetric('margay_ipam_audit_timestamp_seconds')?.get()) ?? {};
    return values[0]?.value ?? 0;
  };
  store.disconnect();
  inSync();
  await pass(2000);
  expect(await audited()).toBe(0);
  store.connect();
  await pass(10_000);
  expect(await audited()).toBeGreaterThan(0);
});
