import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { CniHandler } from '../../../src/cni/handler.ts';
import type { Value } from '../../../src/datastore/store.ts';
import { PodCidrPool } from '../../../src/ipam/pod-cidr.ts';
import { nodeValue } from '../../support/ipam.ts';
import { run, world } from './fakes.ts';

/* The verbs with addresses of the node's podCIDR. */

const hostLocal = { ipam: { type: 'host-local', subnet: 'usePodCidr' } };
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'margay-networks-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function started() {
  const at = world();
  at.kernel.addNamespace('/run/netns/a');
  const node = { ...nodeValue('rack7-n3'), status: { podCIDRs: ['10.244.3.0/24'] } };
  await at.store.create({ type: 'Node', name: 'rack7-n3' }, node as Value<'Node'>);
  const ipam = new PodCidrPool({ store: at.store, node: 'rack7-n3', directory, log: createLog('test', 'silent') });
  const config = { ...at.context.config, podCidr: true };
  return { ...at, handler: new CniHandler({ ...at.context, ipam, config }) };
}

const files = async () => (await readdir(join(directory, 'k8s-pod-network'))).filter((name) => /^\d/.test(name));

test('ADD, ADD again, CHECK and DEL', async () => {
  const at = await started();
  const first = await run(at, 'ADD', { conf: hostLocal });
  expect(first).toMatchObject({ exitCode: 0, answer: { ips: [{ address: '10.244.3.2/32' }] } });
  expect((await run(at, 'ADD', { conf: hostLocal })).answer).toEqual(first.answer);
  expect(await run(at, 'CHECK', { conf: { ...hostLocal, prevResult: first.answer } })).toEqual({
    exitCode: 0,
    answer: {},
  });
  expect(await files()).toEqual(['10.244.3.2']);
  expect((await at.store.list('WorkloadEndpoint')).entries[0]?.value.spec.ipNetworks).toEqual(['10.244.3.2/32']);
  expect((await run(at, 'DEL', { conf: hostLocal })).exitCode).toBe(0);
  expect(await files()).toEqual([]);
  expect((await at.store.list('WorkloadEndpoint')).entries).toEqual([]);
});

test('a failed ADD leaves no file, and GC takes files of containers that are gone without an endpoint', async () => {
  const at = await started();
  at.felix.programs = false;
  expect((await run(at, 'ADD', { conf: hostLocal })).exitCode).toBe(1);
  expect(await files()).toEqual([]);
  at.felix.programs = true;
  await run(at, 'ADD', { conf: hostLocal });
  const [entry] = (await at.store.list('WorkloadEndpoint')).entries;
  if (entry) await at.store.delete({ ...entry.key, type: 'WorkloadEndpoint' });
  const valid = (containerID: string) => ({ 'cni.dev/valid-attachments': [{ containerID, ifname: 'eth0' }] });
  await run(at, 'GC', { conf: { ...hostLocal, cniVersion: '1.1.0', ...valid('9c1f') } });
  expect(await files()).toHaveLength(1);
  expect((await run(at, 'GC', { conf: { ...hostLocal, cniVersion: '1.1.0', ...valid('other') } })).exitCode).toBe(0);
  expect(await files()).toEqual([]);
});

test('a configuration that means the other source of addresses is refused', async () => {
  const at = await started();
  expect((await run(at, 'ADD')).answer).toMatchObject({
    code: 7,
    msg: expect.stringContaining('USE_POD_CIDR is true'),
  });
  const pools = world();
  pools.kernel.addNamespace('/run/netns/a');
  expect((await run(pools, 'ADD', { conf: hostLocal })).answer).toMatchObject({
    code: 7,
    msg: expect.stringMatching(/^ipam\.type: host-local: expected margay-ipam or calico-ipam/),
  });
});
