import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import type { Auditor } from '../../../src/controllers/auditor.ts';
import { Controllers } from '../../../src/controllers/controllers.ts';
import type { LoadBalancers } from '../../../src/controllers/load-balancers.ts';
import { ControllerMetrics } from '../../../src/controllers/metrics.ts';
import type { Performer } from '../../../src/controllers/perform.ts';
import { readSettings } from '../../../src/controllers/settings.ts';
import type { Event } from '../../../src/datastore/store.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { until } from '../../support/wait.ts';

const within = 5_000;

function cluster(datastoreReady: boolean): Event {
  const value = parseResource('ClusterInformation', {
    ...{ kind: 'ClusterInformation', apiVersion: 'projectcalico.org/v3' },
    ...{ metadata: { name: 'default' }, spec: { datastoreReady } },
  });
  return { op: 'set', entry: { key: { type: 'ClusterInformation', name: 'default' }, value, revision: '1' } };
}

test('a locked datastore is let alone, and looked at as soon as it is unlocked', async () => {
  const clock = new ManualClock();
  let looks = 0;
  const auditor = {
    look: async () => {
      looks++;
      return [];
    },
  } as unknown as Auditor;
  const { settings } = readSettings({});
  const controllers = new Controllers({
    ...{ performer: {} as unknown as Performer, auditor, metrics: new ControllerMetrics(), clock },
    loadBalancers: { pass: async () => true } as unknown as LoadBalancers,
    ...{ log: createLog('test', 'silent'), settings: () => settings, copies: false },
  });
  controllers.store.consume({ op: 'events', events: [cluster(false)] });
  controllers.store.consume({ op: 'inSync' });
  const stop = new AbortController();
  const leading = controllers.lead(stop.signal);
  for (let turn = 0; turn < 20; turn++) {
    clock.advance(3_600_000);
    await Promise.resolve();
  }
  expect([controllers.locked, looks]).toEqual([true, 0]);
  controllers.store.consume({ op: 'events', events: [cluster(true)] });
  const looked = () => {
    clock.advance(1000);
    return looks > 0;
  };
  await until(looked, { within, what: 'the audit' });
  stop.abort();
  await leading;
});
