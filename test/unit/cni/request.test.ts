import { expect, test } from 'vitest';
import type { NetworkConfig } from '../../../src/cni/config.ts';
import { CniError } from '../../../src/cni/error.ts';
import { parseRequest } from '../../../src/cni/request.ts';
import { type Call, conf, request } from './fakes.ts';

function refusal(verb: string, call: Call | { stdin: string }): { code: number; message: string } {
  const raw = 'stdin' in call ? { ...request(verb), stdin: call.stdin } : request(verb, call);
  try {
    parseRequest(raw);
  } catch (thrown) {
    if (thrown instanceof CniError) return { code: thrown.code, message: thrown.message };
    throw thrown;
  }
  return expect.fail('the request was accepted');
}

const env = (name: string, value: string | undefined): Call => ({ env: { [name]: value } });

test('an ADD of kubelet, whole', () => {
  const call = { conf: { mtu: 1400, args: { cni: { labels: [{ key: 'app', value: 'cart' }] } } } };
  expect(parseRequest(request('ADD', call))).toEqual({
    verb: 'ADD',
    containerId: '9c1f',
    netns: '/run/netns/a',
    ifName: 'eth0',
    pod: { namespace: 'shop', name: 'cart-7d9' },
    network: {
      cniVersion: '1.0.0',
      name: 'k8s-pod-network',
      mtu: 1400,
      poolsOf: { 4: [], 6: [] },
      labels: { app: 'cart' },
    },
  });
});

test('bandwidth of the runtime: bursts that stand for none are left out, and so is a burst without a rate', () => {
  const bandwidth = (asked: object | null) => {
    const { network } = parseRequest(request('ADD', { conf: { runtimeConfig: { bandwidth: asked } } })) as {
      network: NetworkConfig;
    };
    return network.bandwidth;
  };
  expect(bandwidth({ ingressRate: 10e6, ingressBurst: 8e6, egressRate: 5000, egressBurst: 4294967295 })).toEqual({
    ingressBandwidth: 10e6,
    ingressBurst: 8e6,
    egressBandwidth: 5000,
  });
  expect(bandwidth({ ingressRate: 0, ingressBurst: 8e6, egressRate: 1e6, egressBurst: 2147483647 })).toEqual({
    egressBandwidth: 1e6,
  });
  expect([bandwidth({}), bandwidth(null)]).toEqual([undefined, undefined]);
  expect(refusal('ADD', { conf: { runtimeConfig: { bandwidth: { ingressRate: -1 } } } })).toEqual({
    code: 7,
    message: 'runtimeConfig.bandwidth.ingressRate: -1: expected a whole number of bits, 0 for none',
  });
});

test.each([
  [{ subnet: 'usePodCidr' }, [4]],
  [{ ranges: [[{ subnet: 'usePodCidr' }], [{ subnet: 'usePodCidrIPv6' }]] }, [4, 6]],
])('host-local with %j is of the node’s podCIDRs', (ranges, families) => {
  const parsed = parseRequest(request('ADD', { conf: { ipam: { type: 'host-local', ...ranges } } }));
  expect(parsed).toMatchObject({ network: { podCidr: true, families } });
});

test("Calico's own conflist entry is accepted", () => {
  const calico = {
    type: 'calico',
    log_level: 'info',
    log_file_path: '/var/log/calico/cni/cni.log',
    datastore_type: 'etcdv3',
    etcd_endpoints: 'http://10.0.0.1:2379',
    nodename: 'rack7-n3',
    mtu: 0,
    ipam: { type: 'calico-ipam', assign_ipv4: 'true', assign_ipv6: 'false', ipv4_pools: ['10.65.0.0/16'] },
    policy: { type: 'k8s' },
    kubernetes: { kubeconfig: '/etc/cni/net.d/calico-kubeconfig' },
    policy_setup_timeout_seconds: 5,
  };
  expect(parseRequest(request('ADD', { conf: calico }))).toMatchObject({
    network: { families: [4], poolsOf: { 4: ['10.65.0.0/16'], 6: [] }, nodename: 'rack7-n3', policyTimeoutMs: 5000 },
  });
});

test.each<[string, Call | { stdin: string }, number, RegExp]>([
  ['a newer version', { conf: { cniVersion: '2.0.0' } }, 1, /cniVersion: "2\.0\.0": expected one of 0\.3\.1/],
  ['no version', { conf: { cniVersion: undefined } }, 1, /cniVersion: missing/],
  ['an unknown field', { conf: { ipMasq: true } }, 2, /ipMasq: true: unsupported field/],
  ['a misspelt field', { conf: { Mtu: 1400 } }, 2, /Mtu: 1400: unsupported field; did you mean "mtu"\?/],
  [
    'an unknown IPAM field',
    { conf: { ipam: { type: 'calico-ipam', subnet: 'usePodCidr' } } },
    2,
    /ipam\.subnet: "usePodCidr"/,
  ],
  ['an address asked for', { conf: { args: { cni: { ips: ['10.0.0.1'] } } } }, 2, /args\.cni\.ips/],
  ['input that is no JSON', { stdin: '{"cniVersion": "1.0.0",' }, 6, /standard input/],
  ['input that is no object', { stdin: '[1]' }, 6, /expected a JSON object/],
  ['no input', { stdin: '' }, 6, /standard input: "": expected JSON/],
  ['no name', { conf: { name: undefined } }, 7, /^name: missing/],
  ['a name that would leave its folder', { conf: { name: '../x' } }, 7, /^name: "\.\.\/x"/],
  ['no ipam', { conf: { ipam: undefined } }, 7, /^ipam: missing/],
  ['a foreign ipam', { conf: { ipam: { type: 'dhcp' } } }, 7, /^ipam\.type: "dhcp"/],
  ['host-local without a range', { conf: { ipam: { type: 'host-local' } } }, 7, /^ipam\.subnet: missing/],
  [
    'a range that is not the node’s',
    { conf: { ipam: { type: 'host-local', subnet: '10.0.0.0/24' } } },
    7,
    /^ipam\.subnet: "10\.0\.0\.0\/24": expected usePodCidr/,
  ],
  [
    'a pool of host-local',
    { conf: { ipam: { type: 'host-local', subnet: 'usePodCidr', ipv4_pools: ['p'] } } },
    2,
    /^ipam\.ipv4_pools/,
  ],
  ['no family', { conf: { ipam: { type: 'margay-ipam', assign_ipv4: 'false' } } }, 7, /assign_ipv4, ipam\.assign_ipv6/],
  [
    'a family that is no flag',
    { conf: { ipam: { type: 'margay-ipam', assign_ipv4: 'yes' } } },
    7,
    /^ipam\.assign_ipv4: "yes"/,
  ],
  ['an MTU too small', { conf: { mtu: 68 } }, 7, /^mtu: 68: expected 0 or 576 to 65535/],
  ['an MTU as text', { conf: { mtu: '1400' } }, 7, /^mtu: "1400"/],
  ['a foreign policy', { conf: { policy: { type: 'other' } } }, 7, /^policy\.type: "other"/],
  [
    'labels that are none',
    { conf: { args: { cni: { labels: [{ key: 'a b', value: '' }] } } } },
    7,
    /^args\.cni\.labels\[0\]\.key: "a b"/,
  ],
  [
    'a label value too long',
    { conf: { args: { cni: { labels: [{ key: 'a', value: 'x'.repeat(64) }] } } } },
    7,
    /labels\[0\]\.value/,
  ],
  ['no verb', env('CNI_COMMAND', undefined), 4, /CNI_COMMAND: missing/],
  ['an unknown verb', env('CNI_COMMAND', 'PING'), 4, /CNI_COMMAND: "PING": expected one of ADD/],
  ['no container', env('CNI_CONTAINERID', undefined), 4, /CNI_CONTAINERID: missing/],
  ['a container that is a path', env('CNI_CONTAINERID', '../../x'), 4, /CNI_CONTAINERID: "\.\.\/\.\.\/x"/],
  ['no namespace', env('CNI_NETNS', ''), 4, /CNI_NETNS: missing/],
  ['a relative namespace', env('CNI_NETNS', 'netns/a'), 4, /CNI_NETNS: "netns\/a": expected the absolute path/],
  ['a device name too long', env('CNI_IFNAME', 'e'.repeat(16)), 4, /CNI_IFNAME/],
  ['no pod', env('CNI_ARGS', ''), 4, /CNI_ARGS K8S_POD_NAMESPACE: missing/],
  [
    'a pod name with a slash',
    env('CNI_ARGS', 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=../a'),
    4,
    /K8S_POD_NAME: "\.\.\/a"/,
  ],
  ['an unknown argument', env('CNI_ARGS', 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a;X=1'), 4, /CNI_ARGS X: "1"/],
  ['a fixed address', env('CNI_ARGS', 'IP=10.0.0.1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a'), 4, /CNI_ARGS IP/],
  ['arguments that are no pairs', env('CNI_ARGS', 'foo'), 4, /CNI_ARGS: "foo": expected KEY=value/],
])('refuses %s', (_what, call, code, message) => {
  const found = refusal('ADD', call);
  expect(found.message).toMatch(message);
  expect(found.code).toBe(code);
});

test('CHECK needs 0.4.0, GC and STATUS 1.1.0', () => {
  expect(refusal('CHECK', { conf: { cniVersion: '0.3.1' } })).toMatchObject({ code: 1 });
  expect(refusal('GC', {})).toMatchObject({ code: 1 });
  expect(refusal('STATUS', {})).toMatchObject({ code: 1 });
});

test('DEL accepts a configuration that ADD would refuse, no namespace and no pod', () => {
  const call = { conf: { ipam: undefined, mtu: 'x', bogus: 1 }, env: { CNI_NETNS: '', CNI_ARGS: undefined } };
  expect(parseRequest(request('DEL', call))).toEqual({
    verb: 'DEL',
    containerId: '9c1f',
    ifName: 'eth0',
    network: { cniVersion: '1.0.0', name: conf['name'], poolsOf: { 4: [], 6: [] }, labels: {} },
  });
});

test('VERSION echoes a readable version and survives any input', () => {
  const raw = request('VERSION');
  expect(parseRequest({ ...raw, stdin: '{"cniVersion":"0.4.0"}' })).toEqual({ verb: 'VERSION', cniVersion: '0.4.0' });
  expect(parseRequest({ ...raw, stdin: 'junk' })).toEqual({ verb: 'VERSION', cniVersion: '1.0.0' });
});
