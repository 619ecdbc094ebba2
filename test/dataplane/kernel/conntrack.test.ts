import { expect, onTestFinished, test } from 'vitest';
import { deleteFlows } from '../../../src/kernel/conntrack.ts';
import { parseIp } from '../../../src/model/address.ts';
import { TestNamespace } from './namespaces.ts';

function setUp() {
  const space = new TestNamespace();
  onTestFinished(() => space[Symbol.dispose]());
  const add = (source: string, destination: string, ...nat: string[]) =>
    space.run(
      ...['conntrack', '-I', '-p', 'udp', '--timeout', '600', '-s', source, '-d', destination, ...nat],
      ...['--sport', '1000', '--dport', '2000'],
    );
  const count = () => Number(space.run('conntrack', '-C').trim());
  return { add, count, launch: { launcher: space.launcher } };
}

test('flows go whichever place the address has in them, and only those', async () => {
  const { add, count, launch } = setUp();
  add('10.0.0.1', '10.0.0.2');
  add('10.0.0.2', '10.0.0.1');
  add('10.0.0.3', '10.96.0.1', '--dst-nat', '10.0.0.1');
  add('10.0.0.3', '10.0.0.4');
  expect(count()).toBe(4);
  expect(await deleteFlows(parseIp('10.0.0.1'), launch)).toBe(3);
  expect(count()).toBe(1);
});

test('no flows is success, for both families', async () => {
  const { launch } = setUp();
  expect(await deleteFlows(parseIp('10.0.0.1'), launch)).toBe(0);
  expect(await deleteFlows(parseIp('fd00::1'), launch)).toBe(0);
});

test('IPv6 flows too', async () => {
  const { add, count, launch } = setUp();
  add('fd00::1', 'fd00::2');
  add('fd00::3', 'fd00::2');
  expect(await deleteFlows(parseIp('fd00::1'), launch)).toBe(1);
  expect(count()).toBe(1);
});
