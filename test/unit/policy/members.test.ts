import { expect, test } from 'vitest';
import { parseCidr } from '../../../src/model/address.ts';
import { parseSelector } from '../../../src/model/selector.ts';
import { type EndpointFacts, namedPortSet, SetTable, selectorSet } from '../../../src/policy/members.ts';

const labels = (text: string) =>
  new Map(
    text
      .split(' ')
      .filter(Boolean)
      .map((label) => [label, '']),
  );
const address = parseCidr('10.65.0.1/32');
const facts = (...ports: readonly number[]): EndpointFacts => ({
  addresses: [address],
  ports: ports.map((port) => ({ name: 'dns', protocol: 'tcp', port })),
});

test('an endpoint that changes labels and facts at once touches the sets that it joins, leaves or changes, and no others', () => {
  const table = new SetTable();
  const [left, joined, kept] = ['old', 'new', 'both'].map((label) =>
    namedPortSet(parseSelector(`has(${label})`), 'dns', 'tcp'),
  );
  const idle = selectorSet(parseSelector('has(both)'));
  for (const request of [left, joined, kept, idle]) table.retain(request ?? expect.fail());
  const members = () => [...table.snapshot().values()].map((set) => [...set.members]);

  table.set('endpoints', 'pod', labels('old both'), facts());
  const before = table.snapshot();
  expect(members()).toEqual([[], [], [], [address]]);
  table.set('endpoints', 'pod', labels('new both'), facts(53));
  expect(members()).toEqual([[], ['10.65.0.1,tcp:53'], ['10.65.0.1,tcp:53'], [address]]);
  const same = [...table.snapshot()].map(([id, set]) => set === before.get(id));
  expect(same).toEqual([true, false, false, true]);
  table.delete('endpoints', 'pod');
  expect(members()).toEqual([[], [], [], []]);
});
