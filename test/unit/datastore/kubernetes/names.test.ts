import { describe, expect, test } from 'vitest';
import { convertUid, readMetadata, writeMetadata } from '../../../../src/datastore/kubernetes/metadata.ts';
import {
  affinityName,
  cidrName,
  handleName,
  hostnameHash,
  parseCidrName,
} from '../../../../src/datastore/kubernetes/names.ts';
import { formatRevisions, parseRevisions } from '../../../../src/datastore/kubernetes/revision.ts';
import { parseCidr } from '../../../../src/model/address.ts';
import { endpointName, parseEndpointName } from '../../../../src/model/endpoint-name.ts';

const cidr = parseCidr('10.65.3.64/26');

describe('names as Calico makes them', () => {
  test.each([
    ['10.65.3.64/26', '10-65-3-64-26'],
    ['fd00:65::40/122', 'fd00-65--40-122'],
    ['fd00:65::/122', 'fd00-65---122'],
    ['0.0.0.0/32', '0-0-0-0-32'],
  ])('block %s is %s, both ways', (text, name) => {
    expect(cidrName(parseCidr(text))).toBe(name);
    expect(parseCidrName(name)).toBe(text);
  });

  test.each(['10-65-3-64', '10-65-3-65-26', 'x', '', '10-65-3-64-33', 'fd00-65-40-122'])('%s is no block', (name) =>
    expect(parseCidrName(name)).toBeUndefined(),
  );

  test('an affinity is named by node and block, a long one by a digest', () => {
    expect(affinityName('rack7-n3', cidr)).toBe('rack7-n3-10-65-3-64-26');
    const long = 'n'.repeat(253);
    expect(affinityName(long, cidr)).toHaveLength(252);
    expect(affinityName(long, cidr)).toMatch(/^n{226}-10-65-3-64-26-[0-9a-f]{11}$/);
    expect(affinityName(`${long.slice(0, 252)}m`, cidr)).not.toBe(affinityName(long, cidr));
  });

  test('a host is found by a hash that fits a label', () =>
    expect(hostnameHash('rack7-n3')).toBe('74G264FOU7KGOPSBXO5WDDHKTBOHJ35JJKQ7LRB5WECWK6BL3GSA'));

  test('a handle is lower case', () => expect(handleName('Net.9C1f')).toBe('net.9c1f'));

  test('an endpoint’s name tells its pod', () => {
    expect(parseEndpointName('rack7--n3-k8s-cart--7d9-eth0')).toEqual({
      node: 'rack7-n3',
      pod: 'cart-7d9',
      endpoint: 'eth0',
    });
    expect(endpointName('rack7-n3', 'cart-7d9', 'eth0')).toBe('rack7--n3-k8s-cart--7d9-eth0');
    for (const wrong of ['a-k8s-b', 'a-cni-b-eth0', 'a-k8s--b-eth0', '', 'a-k8s-b-c-eth0'])
      expect(parseEndpointName(wrong)).toBeUndefined();
  });
});

describe('metadata', () => {
  test('the UID that users see is the storage’s with its bits reversed, both ways', () => {
    const stored = '0f1e2d3c-4b5a-4987-8abc-0123456789ab';
    expect(convertUid(stored)).toBe('f078b43c-d25a-49e1-8a3d-80c4a2e691d5');
    expect(convertUid(convertUid(stored))).toBe(stored);
    expect(convertUid('not a UUID')).toBe('not a UUID');
  });

  test('what users gave lies in the annotation, and wins; the storage’s own is not seen', () => {
    const given = {
      name: 'a',
      uid: 'u',
      resourceVersion: '7',
      creationTimestamp: '2026-03-02T10:11:12Z',
      labels: { app: 'cart', 'projectcalico.org/tier': 'ops' },
      annotations: { note: 'x' },
    };
    const stored = writeMetadata(given, 'a', false);
    expect(stored).toEqual({
      name: 'a',
      labels: { 'projectcalico.org/tier': 'ops' },
      annotations: {
        'projectcalico.org/metadata':
          '{"creationTimestamp":"2026-03-02T10:11:12Z","labels":{"app":"cart","projectcalico.org/tier":"ops"},"annotations":{"note":"x"}}',
      },
    });
    const found = { ...stored, uid: 'u', labels: { ...stored.labels, helm: 'yes' }, resourceVersion: '8' };
    expect(readMetadata(found, 'IPPool(a)')).toEqual({ ...given, resourceVersion: '8' });
  });

  test('without Calico’s annotation everything is seen as it is', () => {
    const labels = { app: 'cart' };
    expect(readMetadata({ name: 'a', labels, annotations: { note: 'x' } }, 'x')).toEqual({
      name: 'a',
      labels,
      annotations: { note: 'x' },
    });
  });

  test('finalizers and owners stay those of the storage', () => {
    const kept = { finalizers: ['f'], ownerReferences: [{ uid: 'o' }] };
    const read = readMetadata({ name: 'a', ...kept }, 'x');
    expect(writeMetadata(read, 'a', false)).toMatchObject(kept);
    expect(writeMetadata(read, 'a', false).annotations?.['projectcalico.org/metadata']).toBe('{}');
  });

  test.each(['{', '[]', '1', 'null'])('an annotation that says %s is named', (text) =>
    expect(() => readMetadata({ name: 'a', annotations: { 'projectcalico.org/metadata': text } }, 'IPPool(a)')).toThrow(
      /^IPPool\(a\)\.metadata\.annotations\.projectcalico\.org\/metadata: /,
    ),
  );
});

test('revisions of lists, both ways', () => {
  const revisions = new Map([
    ['pods', '812'],
    ['ippools.crd.projectcalico.org', '-'],
  ]);
  expect(formatRevisions(revisions)).toBe('pods=812,ippools.crd.projectcalico.org=-');
  expect(parseRevisions(formatRevisions(revisions))).toEqual(revisions);
  expect(parseRevisions(undefined).size).toBe(0);
  for (const wrong of ['812', 'pods=', '=812']) expect(() => parseRevisions(wrong)).toThrow('revision');
});
