import { readFileSync } from 'node:fs';
import { Registry } from 'prom-client';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { defaultLimits, readLimits } from '../../../src/bgp/limits.ts';
import { exposition } from '../../../src/bgp/metrics.ts';
import { readMetricsSettings } from '../../../src/bgp/metrics-settings.ts';
import type { PeerStatus } from '../../../src/bgp/peer.ts';

const none = { open: 0, update: 0, notification: 0, keepalive: 0, refresh: 0 };

function peer(name: string, extra: Partial<PeerStatus> = {}): PeerStatus {
  return {
    name,
    role: 'peer',
    address: '10.0.0.2',
    port: 179,
    asn: 65001,
    state: 'Established',
    since: '2026-01-01T00:00:00.000Z',
    uptimeSeconds: 9,
    flaps: 2,
    families: {
      ipv4: { received: 5, withdrawn: 1, accepted: 4, stale: 0, preferred: 2, advertised: 3, endOfRib: true },
    },
    faults: { 'AS_PATH withdraw': 2 },
    rejected: { asLoop: 3, nextHop: 1 },
    messages: { received: { ...none, update: 7 }, sent: { ...none, keepalive: 8 } },
    remembered: 4,
    ...extra,
  };
}

function textOf(peers: readonly PeerStatus[]): Promise<string> {
  return exposition(peers, new Registry());
}

describe('metrics', () => {
  test('carry the names and labels that dashboards know', async () => {
    const text = await textOf([peer('tor')]);
    const labels = 'name="tor",proto="BGP",ip_version="4",import_filter="",export_filter=""';
    expect(text).toContain(`bird_protocol_up{${labels}} 1\n`);
    expect(text).toContain(`bird_protocol_prefix_import_count{${labels}} 4\n`);
    expect(text).toContain(`bird_protocol_prefix_preferred_count{${labels}} 2\n`);
    expect(text).toContain(`bird_protocol_prefix_export_count{${labels}} 3\n`);
    expect(text).toContain(`bird_protocol_uptime{${labels}} 9\n`);
    expect(text).toContain('bgp_peer_state{peer="tor",session_state="Established",admin_state="UP"} 1\n');
    expect(text).toContain('bgp_routes_received{peer="tor",route_family="ipv4-unicast"} 5\n');
    expect(text).toContain('bgp_routes_rejected_total{peer="tor"} 4\n');
    expect(text).toContain('bgp_received_update_total{peer="tor"} 7\n');
    expect(text).toContain('bgp_sent_keepalive_total{peer="tor"} 8\n');
    expect(text).toContain('bgp_peers 1\n');
  });

  test('each is documented', async () => {
    const text = await textOf([peer('tor')]);
    const guide = readFileSync(new URL('../../../docs/bgp.md', import.meta.url), 'utf8');
    const names = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name = '']) => name);
    expect(names.length).toBeGreaterThan(15);
    const known = (name: string) =>
      guide.includes(`\`${name}\``) ||
      guide.includes(`\`${name.replace(/_(sent|received)_[a-z]+_total$/, '_$1_TYPE_total')}\``);
    expect(names.filter((name) => !known(name))).toEqual([]);
  });

  test('beyond a hundred peers are one', async () => {
    const peers = Array.from({ length: 250 }, (_, i) => peer(`node-${String(i).padStart(3, '0')}`));
    const text = await textOf(peers);
    expect(text.match(/^bgp_routes_accepted\{/gm)).toHaveLength(101);
    expect(text).toContain('bgp_routes_accepted{peer="other",route_family="ipv4-unicast"} 600\n');
    expect(text).toContain('bgp_peer_state{peer="other",session_state="Established",admin_state="UP"} 150\n');
    expect(text).not.toMatch(/bird_protocol_uptime\{name="other"/);
    expect(text).toContain('bgp_peers 250\n');
  });

  test('are off unless asked for, and wrong settings are named', () => {
    expect(readMetricsSettings({})).toBeUndefined();
    expect(readMetricsSettings({ MARGAY_BGPMETRICSENABLED: 'true' })).toEqual({ host: 'localhost', port: 9324 });
    expect(readMetricsSettings({ MARGAY_BGPMETRICSENABLED: 'TRUE', MARGAY_BGPMETRICSPORT: '99' })?.port).toBe(99);
    expect(() => readMetricsSettings({ MARGAY_BGPMETRICSENABLED: 'perhaps' })).toThrow(InputError);
    const wrong = { MARGAY_BGPMETRICSENABLED: 'true', MARGAY_BGPMETRICSPORT: '70000' };
    expect(() => readMetricsSettings(wrong)).toThrow('MARGAY_BGPMETRICSPORT: "70000"');
  });
});

test('limits come from the environment, and wrong ones are named', () => {
  expect(readLimits({})).toEqual(defaultLimits);
  expect(readLimits({ MARGAY_BGPMAXPEERS: '3', MARGAY_BGPMAXCOMMUNITIES: '' })).toEqual({ ...defaultLimits, peers: 3 });
  expect(() => readLimits({ MARGAY_BGPMAXASPATHLENGTH: '0' })).toThrow('MARGAY_BGPMAXASPATHLENGTH: "0"');
  expect(() => readLimits({ MARGAY_BGPMAXQUEUEDOCTETS: 'much' })).toThrow(InputError);
});
