import { expect, test, vi } from 'vitest';
import { keyText, StoreUnavailableError } from '../../../src/datastore/store.ts';
import { KernelError } from '../../../src/kernel/types.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { run, type World, world } from './fakes.ts';

const wep = { type: 'WorkloadEndpoint', namespace: 'shop', name: 'rack7--n3-k8s-cart--7d9-eth0' } as const;

function ready(options?: Parameters<typeof world>[0]): World {
  const made = world(options);
  made.kernel.addNamespace('/run/netns/a');
  made.kernel.addNamespace('/run/netns/b');
  return made;
}

async function expectNothingLeft({ kernel, store, ipam }: World): Promise<void> {
  expect(kernel.host.links().map(({ name }) => name)).toEqual(['lo']);
  expect(
    kernel
      .open('/run/netns/a')
      .links()
      .map(({ name }) => name),
  ).toEqual(['lo']);
  expect((await store.list('WorkloadEndpoint')).entries).toEqual([]);
  expect([...ipam.held]).toEqual([]);
}

test('ADD makes address, endpoint, devices and routes, and says so', async () => {
  const at = ready();
  const labels = [
    { key: 'app', value: 'cart' },
    { key: 'projectcalico.org/serviceaccount', value: 'clerk' },
    { key: 'pcns.stolen', value: 'x' },
  ];
  const { exitCode, answer } = await run(at, 'ADD', { conf: { args: { cni: { labels } } } });
  const pod = at.kernel.open('/run/netns/a');
  expect({ exitCode, answer }).toEqual({
    exitCode: 0,
    answer: {
      cniVersion: '1.0.0',
      interfaces: [
        { name: 'cali6672f9163e3', mac: 'ee:ee:ee:ee:ee:ee' },
        { name: 'eth0', mac: pod.link('eth0')?.mac, sandbox: '/run/netns/a' },
      ],
      ips: [
        { interface: 1, address: '10.64.0.0/32' },
        { interface: 1, address: 'fd00::/128' },
      ],
      routes: [
        { dst: '0.0.0.0/0', gw: '169.254.1.1' },
        { dst: '::/0', gw: 'fe80::ecee:eeff:feee:eeee' },
      ],
      dns: {},
    },
  });
  const stored = await at.store.get(wep);
  expect(parseResource('WorkloadEndpoint', stored?.value)).toMatchObject({
    metadata: {
      labels: {
        app: 'cart',
        'projectcalico.org/namespace': 'shop',
        'projectcalico.org/orchestrator': 'k8s',
        'projectcalico.org/serviceaccount': 'clerk',
      },
    },
    spec: {
      orchestrator: 'k8s',
      node: 'rack7-n3',
      containerID: '9c1f',
      pod: 'cart-7d9',
      endpoint: 'eth0',
      serviceAccountName: 'clerk',
      ipNetworks: ['10.64.0.0/32', 'fd00::/128'],
      profiles: ['kns.shop', 'ksa.shop.clerk'],
      interfaceName: 'cali6672f9163e3',
      mac: pod.link('eth0')?.mac,
    },
  });
  expect(stored?.value.metadata.labels).not.toHaveProperty(['pcns.stolen']);
  expect(pod.link('eth0')).toMatchObject({ up: true, mtu: 1450 });
  expect(pod.routes().map(({ destination }) => destination)).toEqual(['169.254.1.1/32', '0.0.0.0/0', '::/0']);
  expect(at.felix.programmed).toEqual([[keyText(wep), stored?.revision]]);
  expect(at.felix.announced).toEqual([[keyText(wep), `confirmed ${stored?.revision} 10.64.0.0/32 fd00::/128`]]);
});

test.each([
  ['0.3.1', { ips: [{ version: '4' }, { version: '6' }] }],
  ['0.4.0', { ips: [{ version: '4' }, { version: '6' }] }],
  ['1.0.0', { ips: [{ interface: 1 }, { interface: 1 }] }],
  ['1.1.0', { interfaces: [{ mtu: 1400 }, { mtu: 1400 }] }],
])('the result of version %s has its form', async (cniVersion, expected) => {
  const { answer } = await run(ready(), 'ADD', { conf: { cniVersion, mtu: 1400 } });
  expect(answer).toMatchObject({ cniVersion, ...expected });
  const [ip] = answer['ips'] as object[];
  expect('version' in (ip ?? {})).toBe(cniVersion < '1.0.0');
  const [host] = answer['interfaces'] as object[];
  expect('mtu' in (host ?? {})).toBe(cniVersion === '1.1.0');
});

test('the result repeats resolver settings, and what plugins before this one made', async () => {
  const dns = {
    nameservers: ['10.96.0.10'],
    domain: 'cluster.local',
    search: ['svc.cluster.local'],
    options: ['ndots:5'],
  };
  expect((await run(ready(), 'ADD', { conf: { dns } })).answer).toMatchObject({ dns });
  expect((await run(ready(), 'ADD', { conf: { dns: { nameservers: '10.96.0.10' } } })).answer).toMatchObject({
    code: 7,
    msg: expect.stringMatching(/^dns\.nameservers/),
  });
  const prevResult = {
    cniVersion: '1.0.0',
    interfaces: [{ name: 'net9', sandbox: '/run/netns/a' }],
    ips: [{ interface: 0, address: '192.0.2.7/24' }],
    routes: [{ dst: '192.0.2.0/24' }],
    dns: { nameservers: ['192.0.2.1'] },
  };
  const at = ready({ families: [4] });
  const { answer } = await run(at, 'ADD', { conf: { prevResult } });
  expect(answer).toMatchObject({
    interfaces: [{ name: 'net9' }, { name: 'cali6672f9163e3' }, { name: 'eth0' }],
    ips: [
      { interface: 0, address: '192.0.2.7/24' },
      { interface: 2, address: '10.64.0.0/32' },
    ],
    routes: [{ dst: '192.0.2.0/24' }, { dst: '0.0.0.0/0' }],
    dns: prevResult.dns,
  });
  expect(await run(at, 'CHECK', { conf: { prevResult: answer } })).toEqual({ exitCode: 0, answer: {} });
  expect((await run(ready(), 'ADD', { conf: { prevResult: { ips: 1 } } })).answer).toMatchObject({
    code: 7,
    msg: expect.stringMatching(/^prevResult\.ips/),
  });
});

test('ADD said twice gives the same answer and no second address', async () => {
  const at = ready();
  const first = await run(at, 'ADD');
  expect(await run(at, 'ADD')).toEqual(first);
  expect([...at.ipam.held.keys()]).toEqual(['k8s-pod-network.9c1f']);
});

test('ADD said twice mends a device that went away in between', async () => {
  const at = ready();
  const first = await run(at, 'ADD');
  at.kernel.host.deleteLink('cali6672f9163e3');
  expect(await run(at, 'ADD')).toEqual(first);
  expect(at.kernel.open('/run/netns/a').link('eth0')?.up).toBe(true);
});

test('a new container of the same pod takes the endpoint over; DEL of the old one frees only its address', async () => {
  const at = ready();
  await run(at, 'ADD');
  const uid = (await at.store.get(wep))?.value.metadata.uid;
  expect(await run(at, 'ADD', { container: 'b2', netns: '/run/netns/b' })).toMatchObject({ exitCode: 0 });
  const taken = await at.store.get(wep);
  expect(taken?.value).toMatchObject({
    metadata: { uid },
    spec: { containerID: 'b2', ipNetworks: ['10.64.0.1/32', 'fd00::1/128'] },
  });
  expect((await run(at, 'DEL')).exitCode).toBe(0);
  expect([...at.ipam.held.keys()]).toEqual(['k8s-pod-network.b2']);
  expect((await at.store.get(wep))?.revision).toBe(taken?.revision);
  expect(at.kernel.open('/run/netns/b').link('eth0')).toBeDefined();
});

test('an endpoint that outlived a restart of the node is taken over, its old address freed', async () => {
  const at = ready();
  await run(at, 'ADD');
  at.kernel.host.deleteLink('cali6672f9163e3');
  expect(await run(at, 'ADD', { container: 'b2', netns: '/run/netns/b' })).toMatchObject({ exitCode: 0 });
  expect((await at.store.get(wep))?.value.spec.containerID).toBe('b2');
  expect([...at.ipam.held.keys()]).toEqual(['k8s-pod-network.b2']);
});

test('a first ADD asks the datastore nothing before its one transaction, once the handler is fed', async () => {
  const at = ready();
  at.handler.consume({ op: 'inSync' });
  const asked: string[] = [];
  const get = at.store.get.bind(at.store);
  at.store.get = (key) => {
    asked.push(key.type);
    return get(key);
  };
  expect((await run(at, 'ADD')).exitCode).toBe(0);
  expect(asked).toEqual([]);
});

test('a new container that gets no address leaves the old one as it was', async () => {
  const at = ready({ size: 1 });
  await run(at, 'ADD');
  expect(await run(at, 'ADD', { container: 'b2', netns: '/run/netns/b' })).toMatchObject({ exitCode: 1 });
  expect((await at.store.get(wep))?.value.spec.containerID).toBe('9c1f');
  expect(at.kernel.open('/run/netns/a').link('eth0')?.up).toBe(true);
});

test('DEL removes everything, the address last, and twice is success', async () => {
  const at = ready();
  await run(at, 'ADD');
  expect((await run(at, 'DEL')).exitCode).toBe(0);
  await expectNothingLeft(at);
  expect(at.felix.removed).toEqual([keyText(wep)]);
  expect(at.ipam.freed).toEqual(['10.64.0.0', 'fd00::']);
  expect((await run(at, 'DEL')).exitCode).toBe(0);
});

test('DEL works when the namespace is gone and the runtime names no pod', async () => {
  const at = ready();
  await run(at, 'ADD');
  at.kernel.namespaces.delete('/run/netns/a');
  at.kernel.addNamespace('/run/netns/a');
  expect((await run(at, 'DEL', { env: { CNI_NETNS: undefined, CNI_ARGS: undefined } })).exitCode).toBe(0);
  await expectNothingLeft(at);
});

test('DEL with the datastore away asks to be repeated, and the repetition removes everything', async () => {
  const at = ready();
  await run(at, 'ADD');
  at.store.disconnect();
  expect(await run(at, 'DEL')).toMatchObject({ exitCode: 1, answer: { code: 11, cniVersion: '1.0.0' } });
  at.store.connect();
  expect((await run(at, 'DEL')).exitCode).toBe(0);
  await expectNothingLeft(at);
});

test('ADD whose datastore goes away under it asks to be repeated, though nothing can be taken back either', async () => {
  const at = ready();
  at.ipam.assign = async () => {
    at.store.disconnect();
    throw new StoreUnavailableError('etcd does not answer');
  };
  const { exitCode, answer } = await run(at, 'ADD');
  expect({ exitCode, answer }).toMatchObject({
    exitCode: 1,
    answer: { code: 11, msg: 'etcd does not answer', details: expect.stringContaining('taking it back failed too') },
  });
  at.store.connect();
  await run(at, 'DEL');
  await expectNothingLeft(at);
});

test('a failing ADD leaves nothing: pool exhausted', async () => {
  const at = ready({ size: 0 });
  expect(await run(at, 'ADD')).toMatchObject({
    exitCode: 1,
    answer: { code: 101, msg: expect.stringContaining('no free IPv4 address') },
  });
  expect(at.felix.announced).toEqual([[keyText(wep), 'withdrawn']]);
  await expectNothingLeft(at);
});

test('a failing ADD leaves nothing: the kernel refuses the pair', async () => {
  const at = ready();
  at.kernel.host.failures.set('cali6672f9163e3', 'EPERM');
  const failed = await run(at, 'ADD');
  at.kernel.host.failures.clear();
  expect(failed).toMatchObject({ exitCode: 1, answer: { code: 5 } });
  await run(at, 'DEL');
  await expectNothingLeft(at);
});

test.each([
  ['the default route is refused', '0.0.0.0/0'],
  ['the device cannot be set up', 'eth0'],
])('a failing ADD leaves nothing: %s', async (_what, target) => {
  const at = ready();
  at.kernel.open('/run/netns/a').failures.set(target, 'EINVAL');
  expect(await run(at, 'ADD')).toMatchObject({
    exitCode: 1,
    answer: { code: 5, msg: expect.stringContaining('EINVAL') },
  });
  await expectNothingLeft(at);
});

test("a failing ADD leaves nothing: the pod's policy is not programmed in time", async () => {
  const at = ready();
  at.felix.programs = false;
  expect(await run(at, 'ADD', { conf: { policy_setup_timeout_seconds: 1 } })).toMatchObject({
    exitCode: 1,
    answer: { code: 11, msg: "the pod's policy was not in the kernel within 1000 ms" },
  });
  await expectNothingLeft(at);
});

test('a failing ADD leaves nothing: the runtime goes away while it waits', async () => {
  const at = ready();
  const gone = new AbortController();
  at.felix.onProgram = () => gone.abort();
  expect(await run(at, 'ADD', {}, gone.signal)).toMatchObject({ exitCode: 1, answer: { code: 11 } });
  await expectNothingLeft(at);
});

test('a failing ADD leaves nothing: the namespace has the device already', async () => {
  const at = ready();
  at.kernel.open('/run/netns/a').addLink({ index: 9, name: 'eth0', mtu: 1500, up: true });
  expect(await run(at, 'ADD')).toMatchObject({
    exitCode: 1,
    answer: { code: 7, msg: expect.stringContaining('CNI_IFNAME') },
  });
  expect([...at.ipam.held]).toEqual([]);
  expect((await at.store.list('WorkloadEndpoint')).entries).toEqual([]);
  expect(at.kernel.host.links().map(({ name }) => name)).toEqual(['lo']);
  expect(at.kernel.open('/run/netns/a').link('eth0')?.mtu).toBe(1500);
});

test('a repeated ADD keeps what is stored, whatever came of going on without knowing of it', async () => {
  const at = ready();
  const first = await run(at, 'ADD');
  const held = [...at.ipam.held];
  at.kernel.host.deleteLink('cali6672f9163e3');
  vi.spyOn(at.kernel.host, 'addVethAside').mockRejectedValueOnce(new KernelError('add veth', 'ENOMEM'));
  expect((await run(at, 'ADD')).answer).toEqual(first.answer);
  expect([...at.ipam.held]).toEqual(held);
  expect(at.kernel.open('/run/netns/a').link('eth0')).toBeDefined();
});

test('an unknown container namespace is refused before anything is made', async () => {
  const at = ready();
  expect(await run(at, 'ADD', { netns: '/run/netns/none' })).toMatchObject({
    exitCode: 1,
    answer: { code: 3, msg: expect.stringContaining('/run/netns/none') },
  });
  await expectNothingLeft(at);
});

test('a locked datastore takes no pods in and lets none go', async () => {
  const at = ready();
  await run(at, 'ADD');
  const spec = { datastoreReady: false };
  const value = {
    kind: 'ClusterInformation',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'default' },
    spec,
  } as const;
  await at.store.create({ type: 'ClusterInformation', name: 'default' }, value);
  for (const verb of ['ADD', 'DEL', 'DEL']) {
    expect(await run(at, verb)).toMatchObject({
      exitCode: 1,
      answer: { code: 11, msg: expect.stringContaining('datastoreReady') },
    });
  }
  expect(await run(at, 'STATUS', { conf: { cniVersion: '1.1.0' } })).toMatchObject({
    exitCode: 1,
    answer: { code: 50 },
  });
});

test('another node in the configuration, another device, a pod name too long', async () => {
  const at = ready();
  expect(await run(at, 'ADD', { conf: { nodename: 'other' } })).toMatchObject({
    answer: { code: 7, msg: expect.stringMatching(/^nodename: "other"/) },
  });
  expect(await run(at, 'ADD', { env: { CNI_IFNAME: 'net1' } })).toMatchObject({
    answer: { code: 4, msg: expect.stringMatching(/^CNI_IFNAME: "net1"/) },
  });
  expect(await run(at, 'DEL', { env: { CNI_IFNAME: 'net1' } })).toMatchObject({ exitCode: 0 });
  expect(await run(at, 'ADD', { pod: 'a'.repeat(250) })).toMatchObject({
    answer: { code: 4, msg: expect.stringContaining('K8S_POD_NAME') },
  });
  await expectNothingLeft(at);
});

test('CHECK passes after ADD and names everything that went missing', async () => {
  const at = ready();
  const { answer: prevResult } = await run(at, 'ADD');
  expect(await run(at, 'CHECK', { conf: { prevResult } })).toEqual({ exitCode: 0, answer: {} });
  const pod = at.kernel.open('/run/netns/a');
  pod.deleteAddress('eth0', '10.64.0.0/32');
  pod.routeByKey.clear();
  at.ipam.held.clear();
  const { answer } = await run(at, 'CHECK', { conf: { prevResult } });
  expect(answer).toMatchObject({ code: 100 });
  for (const part of ['10.64.0.0 is missing on eth0', 'route 0.0.0.0/0', 'route ::/0', 'not assigned to handle']) {
    expect(answer['msg']).toContain(part);
  }
  at.kernel.host.deleteLink('cali6672f9163e3');
  expect((await run(at, 'CHECK', { conf: { prevResult } })).answer['msg']).toContain('cali6672f9163e3 is missing');
  expect(await run(at, 'CHECK')).toMatchObject({
    answer: { code: 7, msg: expect.stringMatching(/^prevResult: missing/) },
  });
  const strange = { conf: { prevResult: { ips: [{ address: 'x/32' }] } } };
  expect(await run(at, 'CHECK', strange)).toMatchObject({
    answer: { code: 7, msg: expect.stringMatching(/^prevResult\.ips\[0\]\.address/) },
  });
});

test('GC removes what the runtime no longer knows and keeps the rest', async () => {
  const at = ready();
  await run(at, 'ADD');
  await run(at, 'ADD', { container: 'b2', pod: 'other', netns: '/run/netns/b' });
  const valid = [{ containerID: 'b2', ifname: 'eth0' }];
  expect(await run(at, 'GC', { conf: { cniVersion: '1.1.0', 'cni.dev/valid-attachments': valid } })).toMatchObject({
    exitCode: 0,
  });
  expect([...at.ipam.held.keys()]).toEqual(['k8s-pod-network.b2']);
  expect((await at.store.list('WorkloadEndpoint')).entries.map(({ value }) => value.spec.containerID)).toEqual(['b2']);
  expect(await run(at, 'GC', { conf: { cniVersion: '1.1.0' } })).toMatchObject({ answer: { code: 7 } });
});

test('verbs of one pod run one after the other', async () => {
  const at = ready();
  const answers = await Promise.all(['ADD', 'ADD', 'DEL', 'ADD', 'DEL'].map((verb) => run(at, verb)));
  expect(answers.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0, 0, 0]);
  await expectNothingLeft(at);
});
