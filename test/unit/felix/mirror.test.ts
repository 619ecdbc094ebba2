import { expect, test } from 'vitest';
import { ClusterMirror } from '../../../src/felix/explain/mirror.ts';
import { parseIp } from '../../../src/model/address.ts';
import { pod, podKey } from './support.ts';

test('an address that a new pod has taken over is not lost with the old one', () => {
  const pods = new ClusterMirror();
  const entry = (name: string) => ({ key: podKey(name), value: pod(name, { addresses: ['10.0.0.1'] }), revision: '1' });
  const address = parseIp('10.0.0.1');
  pods.consume({ op: 'events', events: [{ op: 'set', entry: entry('old') }] });
  expect(pods.podAt(address)).toEqual({ namespace: 'shop', pod: 'old' });
  pods.consume({
    op: 'events',
    events: [
      { op: 'set', entry: entry('new') },
      { op: 'delete', key: podKey('old') },
    ],
  });
  expect(pods.podAt(address)).toEqual({ namespace: 'shop', pod: 'new' });
  expect([...pods.counts()]).toEqual([['WorkloadEndpoint', 1]]);
  pods.consume({ op: 'events', events: [{ op: 'delete', key: podKey('new') }] });
  expect(pods.podAt(address)).toBeUndefined();
  expect(pods.counts().size).toBe(0);
});
