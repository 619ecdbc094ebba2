import { expect, onTestFinished, test } from 'vitest';
import { type ConntrackOptions, openConntrack } from '../../../src/kernel/conntrack.ts';
import { inNamespace } from '../../../src/kernel/namespace.ts';
import { KernelError } from '../../../src/kernel/types.ts';
import { parseIp } from '../../../src/model/address.ts';
import { TestNamespace } from './namespaces.ts';

function setUp(options: ConntrackOptions = {}) {
  const space = new TestNamespace();
  onTestFinished(() => space[Symbol.dispose]());
  const conntrack = inNamespace(space.path, () => openConntrack(options));
  onTestFinished(() => conntrack.close());
  const add = (source: string, destination: string, ...options: string[]) =>
    space.run(
      ...['conntrack', '-I', '-p', 'udp', '--timeout', '600', '-s', source, '-d', destination, ...options],
      ...(options.includes('--sport') ? [] : ['--sport', '1000']),
      ...['--dport', '2000'],
    );
  /** Flows from one source to `count` ports of a destination, by one program. */
  const fill = (source: string, destination: string, count: number) => {
    const line = `conntrack -I -p udp --timeout 600 -s ${source} -d ${destination} --dport 2000 --sport`;
    space.run('sh', '-c', `for port in $(seq ${count}); do ${line} $port; done >/dev/null 2>&1`);
  };
  const count = () => Number(space.run('conntrack', '-C').trim());
  return { conntrack, add, fill, count };
}

const ips = (...addresses: string[]) => addresses.map((address) => parseIp(address));

test('flows go whichever place the address has in them, and only those', async () => {
  const { conntrack, add, count } = setUp();
  add('10.0.0.1', '10.0.0.2');
  add('10.0.0.2', '10.0.0.1');
  add('10.0.0.3', '10.96.0.1', '--dst-nat', '10.0.0.1');
  add('10.0.0.3', '10.0.0.5', '--src-nat', '10.0.0.1');
  add('10.0.0.3', '10.0.0.4');
  expect(count()).toBe(5);
  expect(await conntrack.deleteFlows(ips('10.0.0.1'))).toBe(4);
  expect(count()).toBe(1);
});

test('the connections that match go, as forwarding saw them, and no others', async () => {
  const { conntrack, add, count } = setUp();
  add('10.0.0.1', '10.0.0.2');
  add('10.0.0.3', '10.96.0.1', '--dst-nat', '10.0.0.2:3000', '--sport', '1001');
  add('10.0.0.1', '10.0.0.2', '--zone', '7');
  add('fd00::1', 'fd00::2');
  const seen: string[] = [];
  const deleted = await conntrack.deleteMatching([4, 6], ({ source, destination, protocol, destinationPort }) => {
    seen.push(`${source} ${destination} ${protocol} ${destinationPort}`);
    return destinationPort === 3000;
  });
  expect(seen.sort()).toEqual(['10.0.0.1 10.0.0.2 17 2000', '10.0.0.3 10.0.0.2 17 3000', 'fd00::1 fd00::2 17 2000']);
  expect(deleted).toBe(1);
  expect(count()).toBe(3);
  expect(await conntrack.deleteMatching([4], () => true)).toBe(1);
  expect(count()).toBe(2);
});

test('no flows is success, for both families, and so is no address', async () => {
  const { conntrack, add } = setUp();
  expect(await conntrack.deleteFlows(ips('10.0.0.1', 'fd00::1'))).toBe(0);
  add('10.0.0.3', '10.0.0.4');
  expect(await conntrack.deleteFlows(ips('10.0.0.1', 'fd00::1'))).toBe(0);
  expect(await conntrack.deleteFlows([])).toBe(0);
});

test('IPv6 flows too, and both families at once', async () => {
  const { conntrack, add, count } = setUp();
  add('fd00::1', 'fd00::2');
  add('fd00::3', 'fd00::2');
  add('10.0.0.1', '10.0.0.2');
  expect(await conntrack.deleteFlows(ips('fd00::1', '10.0.0.2'))).toBe(2);
  expect(count()).toBe(1);
});

test('flows of every zone go, whether it is of both directions or one', async () => {
  const { conntrack, add, count } = setUp();
  add('10.0.0.1', '10.0.0.2', '--zone', '7');
  add('10.0.0.1', '10.0.0.2', '--orig-zone', '8', '--sport', '1002');
  add('10.0.0.1', '10.0.0.2', '--reply-zone', '9', '--sport', '1001');
  add('10.0.0.1', '10.0.0.2');
  expect(count()).toBe(4);
  expect(await conntrack.deleteFlows(ips('10.0.0.1'))).toBe(4);
  expect(count()).toBe(0);
});

test('in a larger table the kernel looks for the address, in all four places', async () => {
  const { conntrack, add, fill, count } = setUp({ flowsPerAddress: 1 });
  fill('10.0.0.8', '10.0.0.9', 200);
  add('10.0.0.1', '10.0.0.2');
  add('10.0.0.2', '10.0.0.1');
  add('10.0.0.3', '10.96.0.1', '--dst-nat', '10.0.0.1');
  add('10.0.0.3', '10.0.0.5', '--src-nat', '10.0.0.1');
  add('fd00::1', 'fd00::2');
  add('fd00::2', 'fd00::1');
  expect(await conntrack.deleteFlows(ips('10.0.0.1'))).toBe(4);
  expect(await conntrack.deleteFlows(ips('fd00::1'))).toBe(2);
  expect(count()).toBe(200);
  const many = Array.from({ length: 250 }, (_, at) => `10.1.0.${at}`);
  expect(await conntrack.deleteFlows(ips(...many))).toBe(0);
  expect(await Promise.all([conntrack.deleteFlows(ips('10.0.0.9')), conntrack.deleteFlows(ips('10.0.0.8'))])).toEqual([
    200, 0,
  ]);
  expect(count()).toBe(0);
});

test('after close it refuses', async () => {
  const { conntrack } = setUp();
  conntrack.close();
  await expect(conntrack.deleteFlows(ips('10.0.0.1'))).rejects.toThrow(KernelError);
});
