import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { compile } from '../../../src/bgp/config.ts';
import { ObjectStore } from '../../../src/bgp/objects.ts';
import { SecretFiles } from '../../../src/bgp/secrets.ts';
import type { Event } from '../../../src/datastore/store.ts';
import { type Kind, parseResource } from '../../../src/model/kinds.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'margay-secrets-'));
  mkdirSync(join(directory, 'bgp'));
  writeFileSync(join(directory, 'bgp', 'tor'), 'sesame\n');
  writeFileSync(join(directory, 'bgp', 'mesh'), 'poppy');
  writeFileSync(join(directory, 'bgp', 'long'), 'x'.repeat(81));
});

afterEach(() => rmSync(directory, { recursive: true }));

function set(kind: Kind, name: string, spec: object): Event {
  const value = parseResource(kind, { kind, apiVersion: 'projectcalico.org/v3', metadata: { name }, spec });
  return { op: 'set', entry: { key: { type: kind, name }, value, revision: '1' } } as Event;
}

/** Node a's configuration in a mesh with node b. */
function compiled(...events: readonly Event[]) {
  const objects = new ObjectStore('a', createLog('test', 'silent'));
  objects.apply(set('Node', 'a', { bgp: { ipv4Address: '10.0.0.1/24' } }));
  objects.apply(set('Node', 'b', { bgp: { ipv4Address: '10.0.0.2/24' } }));
  for (const event of events) objects.apply(event);
  return compile(objects, 'a', undefined, new SecretFiles(directory).find) ?? expect.fail('no configuration');
}

const reference = (key: string) => ({ secretKeyRef: { name: 'bgp', key } });
const tor = (extra: object) => set('BGPPeer', 'tor', { peerIP: '10.0.0.9', asNumber: 65001, ...extra });
const mesh = (key: string) => set('BGPConfiguration', 'default', { nodeMeshPassword: reference(key) });

test('peers and the mesh have their passwords, which no dump shows', () => {
  const { config, problems } = compiled(tor({ password: reference('tor'), ttlSecurity: 2 }), mesh('mesh'));
  expect(config.peers.map(({ name, password }) => [name, password?.reveal()])).toEqual([
    ['mesh-b-ipv4', 'poppy'],
    ['tor', 'sesame'],
  ]);
  expect(config.peers[1]?.ttlSecurity).toBe(2);
  expect(problems).toEqual([]);
  expect(JSON.stringify(config)).not.toMatch(/sesame|poppy/);
});

test('without its password there is no session, and the others stand', () => {
  const { config, problems } = compiled(tor({ password: reference('nothere') }), mesh('mesh'));
  expect(config.peers.map(({ name }) => name)).toEqual(['mesh-b-ipv4']);
  expect(problems).toMatchObject([
    { object: 'BGPPeer(tor).spec.password', detail: expect.stringContaining('the secret bgp/nothere is not readable') },
  ]);
  const without = compiled(tor({}), mesh('long'));
  expect(without.config.peers.map(({ name }) => name)).toEqual(['tor']);
  expect(without.problems).toMatchObject([{ detail: expect.stringContaining('81 octets, not 1 to 80') }]);
});

test('a changed secret is another configuration', () => {
  const before = JSON.stringify(compiled(mesh('mesh')).config);
  expect(JSON.stringify(compiled(mesh('mesh')).config)).toBe(before);
  writeFileSync(join(directory, 'bgp', 'mesh'), 'another');
  expect(JSON.stringify(compiled(mesh('mesh')).config)).not.toBe(before);
});

test('a peer that the node has nothing to do with asks for no secret', () => {
  const { problems } = compiled(tor({ password: reference('nothere'), node: 'b' }));
  expect(problems).toEqual([]);
});

test('no directory is a problem, and a name that leads out of it is refused', () => {
  expect(new SecretFiles(undefined).find({ name: 'bgp', key: 'tor' })).toMatchObject({
    problem: expect.stringContaining('MARGAY_SECRETS_DIR'),
  });
  expect(() => tor({ password: reference('../tor') })).toThrow(/secretKeyRef\.key/);
  expect(() => tor({ password: reference('..') })).toThrow(/secretKeyRef\.key/);
});
