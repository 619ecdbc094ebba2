import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { PeerStatus } from '../bgp/peer.ts';
import { ask } from '../cli/control.ts';
import { readPeers } from '../cli/local.ts';
import type { FelixStatus } from '../felix/status.ts';
import type { LabNode } from './plan.ts';

/** @throws ExitError when the node's felix does not answer */
export async function felixStatus({ runDir }: LabNode): Promise<FelixStatus> {
  return (await ask(runDir, 'felix', '/v1/status')) as FelixStatus;
}

/** A node whose felix has programmed what the datastore holds and takes CNI requests; else what is missing. */
export async function felixReady(node: LabNode): Promise<FelixStatus | string> {
  const status = await felixStatus(node);
  if (!status.inSync) return `not in sync (${status.datastore.reason ?? 'the datastore is connected'})`;
  if (status.lastApply === undefined) return 'nothing applied yet';
  return existsSync(join(node.runDir, 'cni.sock')) ? status : 'no CNI socket';
}

/** The peers of a node when `count` sessions are established; else what is missing. */
export async function sessionsEstablished(node: LabNode, count: number): Promise<readonly PeerStatus[] | string> {
  const peers = await readPeers(node.runDir);
  const up = peers.filter(({ state }) => state === 'Established');
  if (up.length >= count) return peers;
  const down = peers.filter(({ state }) => state !== 'Established').map(({ address, state }) => `${address} ${state}`);
  return `${up.length} of ${count} sessions are established${down.length ? `, not ${down.join(', ')}` : ''}`;
}
