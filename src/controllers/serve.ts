import type { Log } from '../base/log.ts';
import { exposing, type Listening, probing, serve } from '../base/serve.ts';
import type { ControllerMetrics } from './metrics.ts';

/** What the probes ask. */
export interface Health {
  /** Undefined, or why this process should be started again. */
  hangs(): string | undefined;
  /** Undefined, or what is not there yet. */
  waitsFor(): string | undefined;
}

/** `/liveness` and `/readiness`. @throws EnvironmentError when the port cannot be had */
export function serveHealth(health: Health, port: number, log: Log): Promise<Listening> {
  const answers = probing({ '/liveness': () => health.hangs(), '/readiness': () => health.waitsFor() });
  return serve(answers, { port, setting: 'MARGAY_CONTROLLERS_HEALTHPORT' }, log);
}

/** `/metrics`. @throws EnvironmentError when the port cannot be had */
export function serveMetrics({ registry }: ControllerMetrics, port: number, log: Log): Promise<Listening> {
  const answers = exposing(() => registry.metrics(), registry.contentType, log);
  return serve(answers, { port, setting: 'prometheusMetricsPort of the KubeControllersConfiguration' }, log);
}
