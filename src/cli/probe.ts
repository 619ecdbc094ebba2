import { request } from 'node:http';
import { explain } from '../base/errors.ts';
import type { Probe } from './calico-names.ts';
import { ask } from './control.ts';
import { type Environment, runDir } from './environment.ts';

/** Less than the ten seconds that manifests give a probe. */
const deadlineMs = 5000;

/** Why a probe fails; undefined when it succeeds. */
export async function probeFailure(probe: Probe, env: Environment): Promise<string | undefined> {
  try {
    switch (probe) {
      case 'felix-live':
        return await answered(felixUrl(env, 'liveness'));
      case 'felix-ready':
        return await answered(felixUrl(env, 'readiness'));
      case 'controllers-live':
        return await answered(controllersUrl(env, 'liveness'));
      case 'controllers-ready':
        return await answered(controllersUrl(env, 'readiness'));
      case 'bgp-live':
        await ask(runDir(env), 'bgp', '/v1/status');
        return undefined;
      case 'bgp-ready':
        return speakerFailure((await ask(runDir(env), 'bgp', '/v1/status')) as SpeakerStatus);
    }
  } catch (thrown) {
    return explain(thrown);
  }
}

/** Of `GET /v1/status`. */
interface SpeakerStatus {
  readonly converged: boolean;
  readonly awaited: readonly string[];
  readonly peers: { readonly configured: number; readonly established: number };
}

/**
 * A speaker is ready when its start is complete, and it has a session or none to have. Before that its neighbours may not
 * restart: a rolling update that goes on to them would leave it without their routes.
 */
export function speakerFailure({ converged, awaited, peers }: SpeakerStatus): string | undefined {
  if (!converged) return `the start is not complete: awaited are ${awaited.join(', ') || 'no more peers'}`;
  if (peers.configured === 0 || peers.established > 0) return undefined;
  return `none of ${peers.configured} BGP sessions is established`;
}

function felixUrl(env: Environment, path: string): string {
  const host = env['FELIX_HEALTHHOST'] || 'localhost';
  return `http://${host.includes(':') ? `[${host}]` : host}:${env['FELIX_HEALTHPORT'] || '9099'}/${path}`;
}

function controllersUrl(env: Environment, path: string): string {
  return `http://localhost:${env['MARGAY_CONTROLLERS_HEALTHPORT'] || '9440'}/${path}`;
}

/** Undefined for 200, else what was answered. */
function answered(url: string): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { agent: false, signal: AbortSignal.timeout(deadlineMs) }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text = (text + part).slice(0, 200);
      });
      response.on('end', () => resolve(response.statusCode === 200 ? undefined : `${url}: ${text.trim()}`));
      response.on('error', reject);
    });
    asked.on('error', reject);
    asked.end();
  });
}
