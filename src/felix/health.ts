import type { Log } from '../base/log.ts';
import { type Listening, probing, serve } from '../base/serve.ts';

/** What the probes ask of the agent. */
export interface Health {
  /** No pass has been running for so many milliseconds. */
  alive(milliseconds: number): boolean;
  ready(): boolean;
}

/**
 * Serves `/liveness` and `/readiness`.
 * @param hangSeconds a pass of the main loop that runs longer means that it hangs
 * @throws EnvironmentError when the port cannot be had
 */
export function serveHealth(
  health: Health,
  host: string,
  port: number,
  log: Log,
  hangSeconds = 90,
): Promise<Listening> {
  const answers = probing({
    '/liveness': () => (health.alive(hangSeconds * 1000) ? undefined : 'the main loop hangs'),
    '/readiness': () => (health.ready() ? undefined : 'not everything is applied'),
  });
  return serve(answers, { host, port, setting: 'FELIX_HEALTHPORT' }, log);
}
