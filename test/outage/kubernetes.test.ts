import { test } from 'vitest';
import { build } from '../e2e/support.ts';
import { KubernetesNode } from '../support/outage/kubernetes.ts';
import { figuresText, playOutage } from '../support/outage/play.ts';
import { seconds } from './seconds.ts';

/* The Kubernetes API is away for ten minutes. */

test(`the API server is away for ${seconds} s`, async () => {
  await build();
  const node = new KubernetesNode();
  try {
    await node.start();
    const figures = await playOutage(await node.stage(), seconds, 6);
    process.stdout.write(figuresText('the API server', figures));
  } finally {
    await node.dispose();
  }
});
