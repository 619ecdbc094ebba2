import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createLog } from '../../src/base/log.ts';
import { createKubernetesStore } from '../../src/datastore/kubernetes/store.ts';
import { ipamOf, poolValue } from '../support/ipam.ts';
import { ControlPlane } from './control-plane.ts';
import { applyDefinitions, objectsOf } from './definitions.ts';

/*
 * An API server that takes two writes and four reads at a time, and answers all others with 429 and Retry-After; all but
 * the administrator's, whom it lets through.
 */

let cluster: ControlPlane;
beforeAll(async () => {
  const narrow = ['--max-mutating-requests-inflight=2', '--max-requests-inflight=4'];
  cluster = await ControlPlane.start({
    apiServerOptions: [...narrow, '--feature-gates=APIPriorityAndFairness=false'],
  });
  await applyDefinitions(cluster);
  await cluster.apply(...objectsOf('margay.yaml'));
});
afterAll(() => cluster?.stop());

test('nodes that take addresses all at once wait as the server asks, and none fails', async () => {
  const lines = new PassThrough();
  let told = '';
  lines.on('data', (chunk: Buffer) => {
    told += String(chunk);
  });
  const log = createLog('test', 'info', lines);
  const access = { by: 'kubeconfig', files: [await cluster.accountKubeconfig('kube-system', 'margay-node')] } as const;
  const store = createKubernetesStore({ type: 'kubernetes', access, interfacePrefix: 'cali' }, log, {
    timeoutMs: 60_000,
  });
  try {
    await store.create({ type: 'IPPool', name: 'p' }, poolValue('p', '10.65.0.0/22', { blockSize: 28 }));
    const { signal } = new AbortController();
    const nodes = Array.from({ length: 16 }, (_, at) => ipamOf(store, `n${at}`));
    const given = await Promise.all(
      nodes.flatMap((ipam, at) =>
        Array.from({ length: 4 }, (_, own) =>
          ipam.assign({ handle: `k8s-pod-network.${at}-${own}`, families: [4], attributes: {} }, signal),
        ),
      ),
    );
    const addresses = given.flat().map(({ address }) => address);
    expect(new Set(addresses).size).toBe(64);
    expect(told).toContain('the Kubernetes API asks to wait');
  } finally {
    store.close();
  }
});
