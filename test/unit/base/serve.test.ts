import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { exposing, probing, serve } from '../../../src/base/serve.ts';

const log = createLog('test', 'silent');
const place = { host: '127.0.0.1', port: 0, setting: 'MARGAY_PORT' };

async function served(handle: Parameters<typeof serve>[0]) {
  const server = await serve(handle, place, log);
  onTestFinished(() => server.close());
  /** The status line and the body that a raw request line is answered with. */
  return async (target: string): Promise<string> => {
    const socket = connect(server.port, '127.0.0.1');
    socket.end(`GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    const [head = '', body = ''] = (await text(socket)).split('\r\n\r\n');
    return `${head.split('\r\n')[0]} ${body}`;
  };
}

/** Request targets that Node hands over and that are no URL. */
const odd = ['//', 'http://', '//[', 'http://[::1', '*'];

test('probes answer 200, 503 with the reason, and 404; what is no path ends nothing', async () => {
  let reason: string | undefined;
  const ask = await served(probing({ '/liveness': () => reason }));
  for (const target of odd) expect(await ask(target)).toMatch(/^HTTP\/1\.1 404 .*expected \/liveness/s);
  expect(await ask('/liveness?verbose')).toMatch(/^HTTP\/1\.1 200 .*ok/s);
  reason = 'it hangs';
  expect(await ask('/liveness')).toMatch(/^HTTP\/1\.1 503 .*it hangs/s);
  expect(await ask('/constructor')).toMatch(/^HTTP\/1\.1 404/);
});

test('metrics that cannot be collected are a 500, and the next scrape is served', async () => {
  let broken = true;
  const collect = () => (broken ? Promise.reject(new Error('no kernel')) : Promise.resolve('up 1\n'));
  const ask = await served(exposing(collect, 'text/plain', log));
  for (const target of odd) expect(await ask(target)).toMatch(/^HTTP\/1\.1 404/);
  expect(await ask('/metrics')).toMatch(/^HTTP\/1\.1 500/);
  broken = false;
  expect(await ask('/metrics')).toMatch(/^HTTP\/1\.1 200 .*up 1/s);
});

test('an address that is taken names the setting', async () => {
  const first = await serve(probing({}), place, log);
  onTestFinished(() => first.close());
  await expect(serve(probing({}), { ...place, port: first.port }, log)).rejects.toThrow(
    `cannot listen on 127.0.0.1 port ${first.port}; choose another with MARGAY_PORT`,
  );
});
