import { expect, test } from 'vitest';
import { type Event, keyText } from '../../../src/datastore/store.ts';
import { Announced } from '../../../src/felix/announced.ts';
import { entry, pod, podKey } from './support.ts';

const key = podKey('web');
const value = pod('web', { addresses: ['10.65.0.2'] });
const set = (revision: string): Event => ({ op: 'set', entry: entry(key, value, revision) });

function graph() {
  const said: string[] = [];
  const endpoints = new Map<string, unknown>();
  const changes = { count: 0 };
  const announced = new Announced(
    {
      endpoints,
      announce: (of, _, families) => said.push(`announce ${keyText(of)} ${families.join(' ')}`),
      apply: (event) => said.push(event.op === 'set' ? `set ${event.entry.revision}` : `${event.op} ${keyText(key)}`),
    },
    () => changes.count++,
  );
  return { said, endpoints, announced, changes };
}

const announcement = `announce ${keyText(key)} 4`;
const deletion = `delete ${keyText(key)}`;

test('an announced endpoint is whole once it is confirmed, and the datastore then tells nothing new', () => {
  const { said, announced, changes } = graph();
  const telling = announced.announce(key, value, [4]);
  telling?.confirm(value, '7');
  expect(said).toEqual([announcement, 'set 7']);
  expect(changes.count).toBe(2);
  expect(announced.told(set('7'))).toBe(true);
  expect(announced.told(set('7'))).toBe(false);
  telling?.withdraw();
  expect(said).toEqual([announcement, 'set 7']);
});

test('what the datastore tells first is not overwritten by the confirmation', () => {
  const { said, announced } = graph();
  const telling = announced.announce(key, value, [4]);
  expect(announced.told(set('8'))).toBe(false);
  telling?.confirm(value, '7');
  expect(said).toEqual([announcement]);
});

test('a withdrawn announcement leaves nothing', () => {
  const { said, announced } = graph();
  announced.announce(key, value, [4])?.withdraw();
  expect(said).toEqual([announcement, deletion]);
  expect(announced.told(set('7'))).toBe(false);
});

test('an endpoint that is known is not announced', () => {
  const { said, endpoints, announced } = graph();
  endpoints.set(keyText(key), {});
  expect(announced.announce(key, value, [4])).toBeUndefined();
  expect(said).toEqual([]);
});

test.each([
  ['confirmed before the list', ['confirm', 'listed']],
  ['confirmed after the list', ['listed', 'confirm']],
])('an endpoint that a later list lacks is gone: %s', (_, order) => {
  const { said, announced } = graph();
  const telling = announced.announce(key, value, [4]);
  for (const step of order) {
    if (step === 'confirm') telling?.confirm(value, '7');
    else announced.listed('9');
  }
  expect(said.at(-1)).toBe(deletion);
});

test('a list from before the confirmation, and one while nothing is confirmed, say nothing of it', () => {
  const { said, announced } = graph();
  const telling = announced.announce(key, value, [4]);
  announced.listed('6');
  telling?.confirm(value, '7');
  announced.listed('6');
  expect(said).toEqual([announcement, 'set 7']);
});
