import { expect, test } from 'vitest';
import { copyAction, goneEndpoints } from '../../../src/controllers/copying.ts';
import { SyncedView } from '../../../src/controllers/view.ts';
import type { Entry, Key } from '../../../src/datastore/store.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { parseKubernetes } from '../../../src/model/kubernetes.ts';
import { endpointValue } from '../../support/ipam.ts';

const key = { type: 'NetworkPolicy', namespace: 'shop', name: 'knp.default.web' } as const;
const object = (spec: object) => ({
  ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'web', namespace: 'shop' } },
  spec,
});
const unreadable = (spec: object) => ({ invalid: { key, error: new Error('a field'), value: object(spec) } });
const copy = () => {
  const value = parseKubernetes(object({ podSelector: {} }));
  return { entry: { key, value, revision: '7' } as unknown as Entry };
};

test('an unreadable policy isolates what it may select where it has no copy, and leaves a copy as it is', () => {
  const known = unreadable({
    podSelector: { matchLabels: { app: 'web' } },
    policyTypes: ['Ingress'],
    ingress: [{ from: 7 }],
  });
  const action = copyAction(key, known, undefined);
  expect(action).toMatchObject({ do: 'create', value: { metadata: { name: key.name, namespace: 'shop' } } });
  const spec = action?.do === 'create' ? (action.value as { spec: unknown }).spec : undefined;
  expect(spec).toMatchObject({ types: ['Ingress'], selector: expect.stringContaining("app == 'web'") });
  expect(spec).not.toHaveProperty('ingress.0');
  expect(copyAction(key, known, copy())).toBeUndefined();
});

test('where not even its selector can be read, the whole namespace is isolated both ways', () => {
  const action = copyAction(key, unreadable({ podSelector: 7, policyTypes: 'all' }), undefined);
  expect(action).toMatchObject({ do: 'create', value: { spec: { types: ['Ingress', 'Egress'] } } });
});

test('an unreadable copy is removed, to be made anew', () => {
  const broken = { invalid: { key, error: new Error('no JSON') } };
  const removal = { do: 'delete', key, revision: undefined };
  expect(copyAction(key, copy(), broken)).toMatchObject(removal);
  expect(copyAction(key, undefined, broken)).toMatchObject({ ...removal, unlessOriginal: true });
});

function viewOf(...entries: { readonly key: Key; readonly value: unknown }[]): SyncedView {
  const view = new SyncedView(() => undefined);
  const events = entries.map((each) => ({ op: 'set', entry: { ...each, revision: '1' } as Entry }) as const);
  view.consume({ op: 'events', events });
  return view;
}

test('an endpoint without a Pod goes after the grace period, one of another orchestrator never', () => {
  const [own, there, other] = ['own', 'there', 'other'].map((pod) => {
    const value = endpointValue(pod, 'n1', []);
    return { key: { type: 'WorkloadEndpoint', namespace: 'shop', name: `w-${pod}` } as const, value };
  }) as [Parameters<typeof viewOf>[0], Parameters<typeof viewOf>[0], Parameters<typeof viewOf>[0]];
  const foreign = { ...other, value: { ...endpointValue('other', 'n1', []), spec: { orchestrator: 'cni' } } };
  const store = viewOf(own, there, foreign);
  const cluster = viewOf(there);
  const first = goneEndpoints(store, cluster, new Map(), { nowSeconds: 100, graceSeconds: 60 });
  expect(first.actions).toEqual([]);
  expect(goneEndpoints(store, cluster, first.seen, { nowSeconds: 159, graceSeconds: 60 }).actions).toEqual([]);
  const { actions } = goneEndpoints(store, cluster, first.seen, { nowSeconds: 160, graceSeconds: 60 });
  expect(actions).toMatchObject([{ do: 'delete', key: own.key, revision: '1', unlessOriginal: true }]);
  expect(goneEndpoints(store, cluster, first.seen, { nowSeconds: 999, graceSeconds: 0 }).actions).toEqual([]);
});

test('the kind takes what Calico’s has, and refuses what none can mean', () => {
  const envelope = {
    kind: 'KubeControllersConfiguration',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'default' },
  };
  const parse = (spec: object) => parseResource('KubeControllersConfiguration', { ...envelope, spec });
  expect(parse({ controllers: { node: { leakGracePeriod: '15m0s' } } }).spec.controllers?.node).toBeDefined();
  expect(() => parse({ controllers: { node: { leakGracePeriod: 'soon' } } })).toThrow('leakGracePeriod');
  expect(() => parse({ prometheusMetricsPort: 70_000 })).toThrow('prometheusMetricsPort');
});
