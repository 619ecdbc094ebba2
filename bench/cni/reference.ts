import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { EnvironmentError } from '../../src/base/errors.ts';
import type { CniCall, Conflist } from '../../src/cni/client.ts';
import { type LabPod, netnsPath } from '../../src/lab/plan.ts';
import type { Lab } from '../../src/lab/up.ts';

/* The other side: Debian's ptp with host-local. */

/** Folder with the reference plugins. @throws EnvironmentError where there are none */
export function referencePlugins(): string {
  const pluginDir = ['/usr/lib/cni', '/opt/cni/bin'].find((directory) => existsSync(join(directory, 'ptp')));
  if (!pluginDir) throw new EnvironmentError('there is no ptp plugin', 'apt-get install containernetworking-plugins');
  return pluginDir;
}

export function referenceCall({ plan }: Lab, pluginDir: string, pod: LabPod, signal: AbortSignal): CniCall {
  const ipam = {
    type: 'host-local',
    dataDir: join(plan.stateDir, 'host-local'),
    ranges: [[{ subnet: '10.99.0.0/16' }]],
    routes: [{ dst: '0.0.0.0/0' }],
  };
  const conflist: Conflist = {
    cniVersion: '1.0.0',
    name: 'reference',
    plugins: [{ type: 'ptp', ipMasq: false, mtu: 1500, ipam }],
  };
  return { conflist, pluginDir, containerId: pod.containerId, netns: netnsPath(pod.netns), ifName: 'eth0', signal };
}
