import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { expect, onTestFinished, test } from 'vitest';
import { root } from '../../dataplane/kernel/bundle.ts';

const run = promisify(execFile);

/** Tells on standard error which packages a program loads. */
const watching = `import { registerHooks } from 'node:module';
registerHooks({
  resolve(specifier, context, next) {
    if (/^[a-z@]/.test(specifier) && !/^(node|file|data):/.test(specifier)) process._rawDebug('loads ' + specifier);
    return next(specifier, context);
  },
});`;

test('explain asks the agent without loading the clients of datastores, schemas and YAML', async () => {
  const outdir = mkdtempSync(join(root, 'node_modules', '.margay-bundle-'));
  onTestFinished(() => rmSync(outdir, { recursive: true }));
  await build({
    entryPoints: [join(root, 'src/cli/ctl.ts')],
    ...{ outdir, bundle: true, splitting: true, platform: 'node', format: 'esm', packages: 'external' },
  });
  const answer = {
    ...{ verdict: 'deny', transport: { protocol: 'tcp', port: 80 }, hosts: [], problems: [], live: { node: 'n1' } },
    ...{ source: { address: '192.0.2.1' }, destination: { address: '192.0.2.2' } },
  };
  const asked: string[] = [];
  const agent = createServer(({ url = '' }, response) => {
    asked.push(url);
    response.end(JSON.stringify(answer));
  });
  await new Promise<void>((resolve) => agent.listen(join(outdir, 'felix.sock'), resolve));
  onTestFinished(() => void agent.close());
  const hook = `data:text/javascript,${encodeURIComponent(watching)}`;
  const args = ['--import', hook, join(outdir, 'ctl.js'), 'explain', '192.0.2.1', '192.0.2.2:80', '-o', 'json'];
  const outcome = await run(process.execPath, args, { env: { ...process.env, MARGAY_RUN_DIR: outdir } }).catch(
    (thrown: { readonly code: number; readonly stdout: string; readonly stderr: string }) => thrown,
  );
  expect(outcome).toMatchObject({ code: 1 });
  expect(JSON.parse(outcome.stdout)).toEqual(answer);
  expect(asked).toEqual(['/v1/explain?from=192.0.2.1&to=192.0.2.2%3A80&namespace=default']);
  const loaded = new Set(outcome.stderr.match(/(?<=^loads )[\w@/-]+/gm));
  expect(loaded.has('commander')).toBe(true);
  for (const heavy of ['yaml', 'zod', 'pino', 'etcd3', '@grpc/grpc-js', '@kubernetes/client-node', 'prom-client'])
    expect(loaded).not.toContain(heavy);
});
