import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Command } from 'commander';
import { build } from 'esbuild';
import { expect, onTestFinished, test, vi } from 'vitest';
import { alone, handedTo, inParts } from '../../../scripts/bundle.ts';
import { doctorCommand } from '../../../src/cli/doctor.ts';
import { explainCommand } from '../../../src/cli/explain.ts';
import { flowsCommand } from '../../../src/cli/flows.ts';
import { configCommand, statusCommand } from '../../../src/cli/local-commands.ts';
import { bgpCommand } from '../../../src/cli/peering.ts';
import { runCtl } from '../../../src/cli/run-ctl.ts';
import { root } from '../../dataplane/kernel/bundle.ts';

const run = promisify(execFile);

/** Tells on standard error which packages a program loads, and at its end which of Node's own modules it has loaded. */
const watching = `import { registerHooks } from 'node:module';
registerHooks({
  resolve(specifier, context, next) {
    if (/^[a-z@]/.test(specifier) && !/^(node|file|data):/.test(specifier)) process._rawDebug('loads ' + specifier);
    return next(specifier, context);
  },
});
process.on('exit', () => {
  for (const name of process.moduleLoadList) process._rawDebug('has ' + name);
});`;

function emptyFolder(): string {
  const folder = mkdtempSync(join(root, 'node_modules', '.margay-bundle-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** What `margayctl` says, and its exit code. */
async function margayctl(folder: string, args: readonly string[]) {
  const hook = `data:text/javascript,${encodeURIComponent(watching)}`;
  const env = { ...process.env, MARGAY_RUN_DIR: folder };
  const started = run(process.execPath, ['--import', hook, join(folder, 'margayctl.js'), ...args], { env });
  const outcome = await started.catch(
    (thrown: { readonly code: number; readonly stdout: string; readonly stderr: string }) => thrown,
  );
  const { stdout, stderr } = outcome;
  const told = stderr.split('\n').filter((line) => !/^(loads|has) /.test(line));
  return {
    ...{ code: 'code' in outcome ? outcome.code : 0, stdout, stderr: told.join('\n') },
    packages: stderr.match(/(?<=^loads ).+/gm) ?? [],
    modules: stderr.match(/(?<=^has NativeModule ).+/gm) ?? [],
  };
}

test('explain asks the agent without loading a package, nor what of Node no question needs', async () => {
  const outdir = emptyFolder();
  await build({ ...alone, outdir });
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
  const outcome = await margayctl(outdir, ['explain', '192.0.2.1', '192.0.2.2:80', '-o', 'json']);
  expect(outcome).toMatchObject({ code: 1, packages: [] });
  expect(JSON.parse(outcome.stdout)).toEqual(answer);
  expect(asked).toEqual(['/v1/explain?from=192.0.2.1&to=192.0.2.2%3A80&namespace=default']);
  expect(outcome.modules).toContain('_http_client');
  for (const costly of ['internal/deps/undici/undici', 'tls', 'readline', 'crypto', 'child_process', 'fs/promises'])
    expect(outcome.modules).not.toContain(costly);
});

test('what the agent is not asked goes on in the other bundles, whose errors end it as its own do', async () => {
  const outdir = emptyFolder();
  await build({ ...alone, outdir });
  await build({ ...inParts, entryPoints: { 'margayctl-offline': './src/cli/explain-apart.ts' }, outdir });
  for (const bundle of Object.values(handedTo)) expect(inParts.entryPoints).toHaveProperty(bundle.slice(2, -3));
  const file = join(outdir, 'policy.yaml');
  const policy = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'web' }, spec: {} };
  writeFileSync(file, JSON.stringify({ ...policy, spec: { podSelector: {} } }));
  const question = ['explain', '192.0.2.1', '192.0.2.2:80', '-f', file];
  expect(await margayctl(outdir, question)).toMatchObject({
    code: 0,
    stderr: '',
    stdout: expect.stringContaining(': allowed\n'),
  });
  const absent = await margayctl(outdir, ['explain', 'nobody', '192.0.2.2:80', '-f', file]);
  expect(absent).toMatchObject({
    code: 2,
    stdout: '',
    stderr: expect.stringMatching(/^margayctl: source: "default\/nobody": /),
  });
});

test.each([
  ...['config explain -o xml', 'bgp peers -o xml', 'bgp peer tor -o xml', 'status -o xml', 'flows -o xml'],
  ...[
    'explain a b:80 -o xml',
    'doctor -o xml',
    'bgp received tor --limit many',
    'flows --limit many',
    'bgp peers --nonsense',
  ],
])('margayctl %s: a wrong option is exit code 2 of every command', async (line) => {
  const commands = [bgpCommand, configCommand, doctorCommand, flowsCommand, statusCommand].map((make) => make());
  const offline = () => expect.fail('nothing is asked');
  const program = [...commands, explainCommand(offline)].reduce((all, each) => all.addCommand(each), new Command());
  const told = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  onTestFinished(() => {
    process.exitCode = undefined;
    told.mockRestore();
  });
  await runCtl(program, ['node', 'margayctl', ...line.split(' ')]);
  expect(process.exitCode).toBe(2);
  expect(told.mock.calls.join('')).toMatch(
    /^margayctl: --(output: "xml": expected json or yaml|limit: "many": )|^error: unknown option/,
  );
});
