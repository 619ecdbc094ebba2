import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { createLog } from '../../../src/base/log.ts';
import { readFelixConfig } from '../../../src/felix/config.ts';
import { nearest } from '../../../src/felix/nearest.ts';
import { RenderedPolicy } from '../../../src/felix/policy.ts';
import { entry, node, pod, podKey, silent } from './support.ts';

test("without settings Calico's defaults hold", () => {
  expect(readFelixConfig({}, silent)).toEqual({
    interfacePrefix: 'cali',
    sourceSpoofing: false,
    establishedFlows: 'keep',
    failsafeInbound: 'tcp:22,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667,udp:68',
    failsafeOutbound: 'tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667,udp:53,udp:67',
    natExclusions: 'pools',
    natAddress: '',
    natPorts: '',
    natDevice: '',
    ipForwarding: true,
    allowVxlan: false,
    allowIpip: false,
    passInvalid: false,
    logPrefix: 'calico-packet',
    watchdogSeconds: 90,
    serviceLoops: 'DROP',
    verdictLogs: 'denied',
    ipv6Support: true,
    iptablesBackend: 'auto',
    endpointToHost: 'DROP',
    routeRefreshSeconds: 90,
    ipsetsRefreshSeconds: 90,
    iptablesRefreshSeconds: 180,
    checkSeconds: 5,
    staleRouteSeconds: 120,
    reportingSeconds: 30,
    reportingTtlSeconds: 90,
    healthEnabled: false,
    healthHost: 'localhost',
    healthPort: 9099,
    metricsEnabled: false,
    metricsHost: 'localhost',
    metricsPort: 9091,
    logLevel: 'info',
    vxlanEnabled: 'auto',
    vxlanMtu: 0,
    vxlanMtuV6: 0,
    vxlanPort: 4789,
    vxlanVni: 4096,
    ipipEnabled: 'auto',
    ipipMtu: 0,
    externalNodes: '',
    udpTunnelPort: 8286,
    udpTunnelMtu: 0,
  });
});

test('names in any letter case, values as Calico writes them', () => {
  const config = readFelixConfig(
    {
      FELIX_IPTABLESBACKEND: 'NFT',
      Felix_IPv6Support: 'false',
      FELIX_DEFAULTENDPOINTTOHOSTACTION: 'Accept',
      FELIX_ROUTEREFRESHINTERVAL: '0',
      FELIX_HEALTHENABLED: '1',
      FELIX_IpInIpEnabled: 'false',
      FELIX_IPINIPMTU: '1400',
      FELIX_INTERFACEPREFIX: '',
    },
    silent,
  );
  expect(config).toMatchObject({
    iptablesBackend: 'nft',
    ipv6Support: false,
    endpointToHost: 'ACCEPT',
    routeRefreshSeconds: 0,
    healthEnabled: true,
    ipipEnabled: false,
    ipipMtu: 1400,
    interfacePrefix: 'cali',
  });
});

test('what policy and NAT take from the settings', () => {
  const config = readFelixConfig(
    {
      FELIX_NATOUTGOINGADDRESS: '192.0.2.9',
      FELIX_NATPORTRANGE: '1024:65535',
      FELIX_IPTABLESNATOUTGOINGINTERFACEFILTER: 'eth+',
      FELIX_IPFORWARDING: 'Disabled',
      FELIX_ALLOWVXLANPACKETSFROMWORKLOADS: 'true',
      FELIX_ALLOWIPIPPACKETSFROMWORKLOADS: 'true',
      FELIX_DISABLECONNTRACKINVALIDCHECK: 'true',
      FELIX_LOGPREFIX: 'my-prefix',
      FELIX_DATAPLANEWATCHDOGTIMEOUT: '30',
    },
    silent,
  );
  expect(config).toMatchObject({
    natAddress: '192.0.2.9',
    natPorts: '1024:65535',
    natDevice: 'eth+',
    ipForwarding: false,
    allowVxlan: true,
    allowIpip: true,
    passInvalid: true,
    logPrefix: 'my-prefix',
    watchdogSeconds: 30,
  });
  expect(readFelixConfig({ FELIX_NATPORTRANGE: '0' }, silent).natPorts).toBe('');
  expect(readFelixConfig({ FELIX_NATPORTRANGE: '80' }, silent).natPorts).toBe('80:80');
});

test('policy is rendered with them', () => {
  const rulesWith = (env: Record<string, string>) => {
    const policy = new RenderedPolicy(node, readFelixConfig(env, silent), silent);
    policy.apply({ op: 'set', entry: entry(podKey('web'), pod('web', { addresses: ['10.65.0.2'] })) });
    return [...policy.filter(4).table.chains.values()].flat().join('\n');
  };
  const usual = rulesWith({});
  expect(usual).toContain('--ctstate INVALID -j DROP');
  expect(usual).toContain('-p udp -m multiport --dports 4789 -j DROP');
  expect(usual).toContain('-p 4 -j DROP');
  expect(rulesWith({ FELIX_DISABLECONNTRACKINVALIDCHECK: 'true' })).not.toContain('INVALID');
  expect(rulesWith({ FELIX_ALLOWVXLANPACKETSFROMWORKLOADS: 'true' })).not.toContain('--dports 4789');
  expect(rulesWith({ FELIX_ALLOWIPIPPACKETSFROMWORKLOADS: 'true' })).not.toContain('-p 4 -j DROP');
});

test.each([
  ['FELIX_NATOUTGOINGADDRESS', 'fd00::1'],
  ['FELIX_NATOUTGOINGADDRESS', 'no'],
  ['FELIX_NATPORTRANGE', '2:1'],
  ['FELIX_NATPORTRANGE', '1:65536'],
  ['FELIX_IPTABLESNATOUTGOINGINTERFACEFILTER', 'eth0 -j ACCEPT'],
  ['FELIX_IPFORWARDING', 'perhaps'],
  ['FELIX_LOGPREFIX', '100%'],
  ['FELIX_DATAPLANEWATCHDOGTIMEOUT', '0'],
  ['FELIX_IPTABLESBACKEND', 'ebpf'],
  ['FELIX_IPV6SUPPORT', 'maybe'],
  ['FELIX_ROUTEREFRESHINTERVAL', '-1'],
  ['FELIX_IPTABLESREFRESHINTERVAL', '1e999'],
  ['FELIX_HEALTHPORT', '65536'],
  ['FELIX_HEALTHHOST', 'a b'],
  ['FELIX_INTERFACEPREFIX', 'cali+'],
  ['FELIX_INTERFACEPREFIX', 'calico'],
  ['FELIX_DEFAULTENDPOINTTOHOSTACTION', 'constructor'],
  ['FELIX_EXTERNALNODESCIDRLIST', '10.0.0.0/33'],
  ['FELIX_EXTERNALNODESCIDRLIST', '0.0.0.0/0'],
])('%s=%s is refused by name', (name, value) => {
  expect(() => readFelixConfig({ [name]: value }, silent)).toThrow(InputError);
  expect(() => readFelixConfig({ [name]: value }, silent)).toThrow(`${name}: "${value}": expected`);
});

test('lists of prefixes in canonical form, under the name of the environment and of the resource', () => {
  const text = '192.0.2.77/24, 198.51.100.9/32,fd09::1/64';
  for (const name of ['FELIX_EXTERNALNODESCIDRLIST', 'FELIX_EXTERNALNODESLIST'])
    expect(readFelixConfig({ [name]: text }, silent).externalNodes).toBe('192.0.2.0/24,198.51.100.9/32,fd09::/64');
  expect(readFelixConfig({ FELIX_EXTERNALNODESCIDRLIST: 'none' }, silent).externalNodes).toBe('');
});

test('an unknown setting is named with the nearest known one', () => {
  const lines: string[] = [];
  const sink = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  readFelixConfig({ FELIX_HEALTHENABELD: 'true', FELIX_LOGSEVERITYSCREEN: 'Info' }, createLog('t', 'info', sink));
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { level: 'warn', variable: 'FELIX_HEALTHENABELD', didYouMean: 'FELIX_HEALTHENABLED' },
  ]);
});

test('nothing is near what is far', () => {
  expect(nearest('RTTMEASURE', ['HEALTHPORT', 'IPV6SUPPORT'])).toBeUndefined();
  expect(nearest('HEALTHPROT', ['HEALTHPORT', 'IPV6SUPPORT'])).toBe('HEALTHPORT');
});
