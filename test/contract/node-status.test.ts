import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { ExitError, exitCode } from '../../src/cli/exit.ts';
import { NodeStatusReporter } from '../../src/cli/node-status.ts';
import { createMemoryStore } from '../../src/datastore/memory.ts';
import type { KeyOf, Store, Value } from '../../src/datastore/store.ts';
import { parseResource } from '../../src/model/kinds.ts';
import type { NodeStatus } from '../../src/model/node-status.ts';
import { startCluster } from '../support/kubernetes/cluster.ts';
import { until } from '../support/wait.ts';

/* A node's status where a CalicoNodeStatus asks for it, in both datastores; on the Kubernetes API by the manifest's rights. */

const soon = { within: 10_000 };
const since = '2026-03-02T10:11:12Z';
const peer = { state: 'Established', since };
const answers: Readonly<Record<string, unknown>> = {
  '/v1/status': { identifier: '192.0.2.1', converged: true },
  '/v1/peers': {
    peers: [
      { ...peer, name: 'mesh/n2', address: '192.0.2.2', role: 'mesh' },
      { ...peer, name: 'tor', address: '192.0.2.254', role: 'peer', state: 'Active' },
      { ...peer, name: 'all', address: '2001:db8::1', role: 'peer' },
    ],
  },
  '/v1/routes?limit=1000': {
    routes: [
      {
        prefix: '10.65.1.0/26',
        paths: [
          { peer: 'mesh/n2', source: 'ibgp', verdict: 'best', nextHop: '192.0.2.2' },
          { peer: 'tor', source: 'ebgp', verdict: 'asPath', nextHop: '192.0.2.254' },
        ],
      },
      { prefix: 'fd00:65::/122', paths: [{ peer: 'local', source: 'local', verdict: 'best', nextHop: '::' }] },
    ],
  },
};

describe.each(['memory', 'kubernetes'] as const)('%s', (driver) => {
  let store: Store;
  let asked: string[];
  let answering: boolean;
  let over: AbortController;
  let done: Promise<void>;
  let close: () => Promise<void>;

  beforeEach(async () => {
    asked = [];
    answering = true;
    over = new AbortController();
    const cluster = driver === 'kubernetes' ? await startCluster() : undefined;
    store = cluster?.open() ?? createMemoryStore();
    close = async () => cluster?.close();
    await create('BGPPeer', 'tor', { node: 'n1', peerIP: '192.0.2.254:179', asNumber: 64_513 });
    const ask = async (path: string) => {
      asked.push(path);
      if (!answering) throw new ExitError(exitCode.unreachable, 'bgp does not run');
      return answers[path];
    };
    const log = createLog('test', 'silent');
    done = new NodeStatusReporter({ store: cluster?.open() ?? store, node: 'n1', ask, clock: systemClock, log }).run(
      over.signal,
    );
    if (cluster) cluster.api.rules = [...rightsOf('margay-node'), { ...own, verbs: ['create', 'update', 'get'] }];
  });
  afterEach(async () => {
    over.abort();
    await done;
    await close();
  });

  async function create(kind: 'BGPPeer' | 'CalicoNodeStatus', name: string, spec: object): Promise<void> {
    const value = parseResource(kind, { kind, apiVersion: 'projectcalico.org/v3', metadata: { name }, spec });
    await store.create({ type: kind, name } as KeyOf<typeof kind>, value as Value<typeof kind>);
  }

  async function statusOf(name: string): Promise<NodeStatus | undefined> {
    const found = await store.get({ type: 'CalicoNodeStatus', name });
    return (found?.value as { status?: NodeStatus } | undefined)?.status;
  }

  test('every class, as often as it says', async () => {
    await create('CalicoNodeStatus', 'mine', {
      node: 'n1',
      classes: ['Agent', 'BGP', 'Routes'],
      updatePeriodSeconds: 1,
    });
    await create('CalicoNodeStatus', 'other', { node: 'n2', classes: ['BGP'], updatePeriodSeconds: 1 });
    const first = await until(() => statusOf('mine'), { ...soon, what: 'a status' });
    const daemon = { state: 'Ready', routerID: '192.0.2.1' };
    expect(first).toEqual({
      lastUpdated: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      agent: { birdV4: daemon, birdV6: daemon },
      bgp: {
        ...{ numberEstablishedV4: 1, numberNotEstablishedV4: 1, numberEstablishedV6: 1, numberNotEstablishedV6: 0 },
        peersV4: [
          { peerIP: '192.0.2.2', type: 'NodeMesh', state: 'Established', since },
          { peerIP: '192.0.2.254', type: 'NodePeer', state: 'Active', since },
        ],
        peersV6: [{ peerIP: '2001:db8::1', type: 'GlobalPeer', state: 'Established', since }],
      },
      routes: {
        routesV4: [
          {
            ...{ type: 'FIB', destination: '10.65.1.0/26', gateway: '192.0.2.2' },
            learnedFrom: { sourceType: 'NodeMesh', peerIP: '192.0.2.2' },
          },
          {
            ...{ type: 'RIB', destination: '10.65.1.0/26', gateway: '192.0.2.254' },
            learnedFrom: { sourceType: 'BGPPeer', peerIP: '192.0.2.254' },
          },
        ],
        routesV6: [{ type: 'FIB', destination: 'fd00:65::/122', learnedFrom: { sourceType: 'Static' } }],
      },
    });
    answering = false;
    await until(async () => (await statusOf('mine'))?.agent?.birdV4.state === 'NotReady', {
      ...soon,
      what: 'the next',
    });
    expect(await statusOf('other')).toBeUndefined();
  });

  test('once where the period is none, and again when something else is asked for', async () => {
    await create('CalicoNodeStatus', 'once', { node: 'n1', classes: ['Agent'], updatePeriodSeconds: 0 });
    await until(() => statusOf('once'), { ...soon, what: 'a status' });
    expect(asked).toEqual(['/v1/status', '/v1/peers']);
    const found = await store.get({ type: 'CalicoNodeStatus', name: 'once' });
    if (found === undefined) throw new Error('it is gone');
    const spec = { ...found.value.spec, classes: ['BGP' as const] };
    await store.update({ type: 'CalicoNodeStatus', name: 'once' }, { ...found.value, spec }, found.revision);
    await until(async () => (await statusOf('once'))?.bgp, { ...soon, what: 'the other class' });
    expect(await statusOf('once')).not.toHaveProperty('agent');
    expect(asked).toHaveLength(4);
  });
});

const own = { apiGroups: ['crd.projectcalico.org'], resources: ['caliconodestatuses'] };

function rightsOf(name: string) {
  const text = readFileSync(join(import.meta.dirname, '../../deploy/margay.yaml'), 'utf8');
  const objects = parseAllDocuments(text).map((each) => each.toJS());
  return objects.find(({ kind, metadata }) => kind === 'ClusterRole' && metadata.name === name).rules;
}
