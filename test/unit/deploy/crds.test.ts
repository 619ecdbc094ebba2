import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { definitions, structural } from '../../../scripts/crds.ts';
import { calicoResources, Refusal, type TestObject } from '../../support/kubernetes/objects.ts';
import { type Schema, structuralProblems } from '../../support/kubernetes/schema.ts';

const folder = join(import.meta.dirname, '../../../deploy/crds');

test('the definitions are what `npm run crds` makes of the schemas', () => {
  const stored = new Map(readdirSync(folder).map((file) => [file, readFileSync(join(folder, file), 'utf8')]));
  expect([...stored.keys()].sort()).toEqual([...definitions().keys()]);
  for (const [file, text] of definitions()) expect(stored.get(file), `${file}: run \`npm run crds\``).toBe(text);
});

describe.each([...definitions()])('%s', (_file, text) => {
  const { metadata, spec } = parse(text);
  const [{ schema, ...version }] = spec.versions;

  test('is structural, and served as storage under its name', () => {
    expect(structuralProblems(schema.openAPIV3Schema as Schema, '')).toEqual([]);
    expect(version).toEqual({ name: 'v1', served: true, storage: true });
    expect(metadata.name).toBe(`${spec.names.plural}.${spec.group}`);
    // False is the default, which the server does not tell: `kubectl apply` would set it again each time.
    expect(spec).not.toHaveProperty('preserveUnknownFields');
  });
});

/** What the API server says to an object of a kind. */
function admitted(kind: string, spec: object): string {
  const resource = calicoResources.find((each) => each.kind === kind);
  const object = { metadata: { name: 'x' }, spec } as TestObject;
  try {
    resource?.admit?.(object);
    return 'admitted';
  } catch (thrown) {
    if (thrown instanceof Refusal) return thrown.message;
    throw thrown;
  }
}

test.each([
  ['IPPool', { cidr: '10.0.0.0/16', ipipMode: 'CrossSubnet', fromTheFuture: {} }],
  ['BGPPeer', { peerIP: '192.0.2.1', asNumber: 65001 }],
  ['BGPPeer', { peerIP: '192.0.2.1', asNumber: '1.10', bfd: {} }],
  [
    'GlobalNetworkPolicy',
    { ingress: [{ action: 'Allow', protocol: 'TCP', destination: { ports: [80, '90:99', 'web'] } }] },
  ],
  ['FelixConfiguration', { logSeverityScreen: 'Info', routeRefreshInterval: '90s' }],
  [
    'IPAMBlock',
    {
      ...{ cidr: '10.0.0.0/31', strictAffinity: false, allocations: [null, 0], unallocated: [0], deleted: false },
      ...{ attributes: [{ handle_id: null }], sequenceNumber: 1772446272000000001n },
    },
  ],
])('%s, object %#, is admitted', (kind, spec) => expect(admitted(kind, spec)).toBe('admitted'));

test.each([
  ['IPPool', {}, 'spec.cidr: Required value'],
  ['IPPool', { cidr: '10.0.0.0/16', ipipMode: 'Sometimes' }, 'spec.ipipMode: Unsupported value'],
  ['BGPPeer', { asNumber: [] }, 'spec.asNumber: Invalid value: "array"'],
  ['BGPPeer', { ttlSecurity: 256 }, 'spec.ttlSecurity: Invalid value: "256"'],
  ['FelixConfiguration', { routeRefreshInterval: 'soon' }, 'spec.routeRefreshInterval: Invalid value'],
  ['GlobalNetworkPolicy', { ingress: [{ action: 'allow' }] }, 'spec.ingress[0].action: Unsupported value'],
])('%s %j is refused by the API server', (kind, spec, message) => expect(admitted(kind, spec)).toContain(message));

test('a form that Kubernetes has no word for is a defect', () =>
  expect(() => structural({ anyOf: [{ type: 'boolean' }, { type: 'string' }] })).toThrow(/no structural form/));
