import type { Log } from '../base/log.ts';
import { type Listening, probing, serve } from '../base/serve.ts';

/** A pass of the main loop that runs longer than this means that it hangs. */
const hangMs = 90_000;

/** What the probes ask of the agent. */
export interface Health {
  /** No pass has been running for so many milliseconds. */
  alive(milliseconds: number): boolean;
  ready(): boolean;
}

/** Serves `/liveness` and `/readiness`. @throws EnvironmentError when the port cannot be had */
export function serveHealth(health: Health, host: string, port: number, log: Log): Promise<Listening> {
  const answers = probing({
    '/liveness': () => (health.alive(hangMs) ? undefined : 'the main loop hangs'),
    '/readiness': () => (health.ready() ? undefined : 'not everything is applied'),
  });
  return serve(answers, { host, port, setting: 'FELIX_HEALTHPORT' }, log);
}
