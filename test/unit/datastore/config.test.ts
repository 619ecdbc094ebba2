import { expect, test } from 'vitest';
import { EnvironmentError, InputError } from '../../../src/base/errors.ts';
import { createLog } from '../../../src/base/log.ts';
import { openStore, readStoreConfig } from '../../../src/datastore/open.ts';

test('endpoints are a comma list, and the default is the local member', () => {
  expect(readStoreConfig({})).toEqual({ type: 'etcdv3', endpoints: ['http://127.0.0.1:2379'] });
  const ETCD_ENDPOINTS = 'http://10.0.0.1:2379, http://[fd00::1]:2379/,';
  expect(readStoreConfig({ DATASTORE_TYPE: 'etcdv3', ETCD_ENDPOINTS }).endpoints).toEqual([
    'http://10.0.0.1:2379',
    'http://[fd00::1]:2379',
  ]);
});

test('the prefix CALICO_ wins, and empty values count as unset', () => {
  const env = {
    ETCD_ENDPOINTS: 'http://a:1',
    CALICO_ETCD_ENDPOINTS: 'http://b:2',
    ETCD_USERNAME: '',
    ETCD_PASSWORD: ' ',
  };
  expect(readStoreConfig(env)).toEqual({ type: 'etcdv3', endpoints: ['http://b:2'] });
});

test('credentials and certificates', () => {
  const config = readStoreConfig({
    ETCD_ENDPOINTS: 'https://a:2379',
    ETCD_USERNAME: 'margay',
    ETCD_PASSWORD: 'secret',
    ETCD_CA_CERT_FILE: '/ca',
    ETCD_CERT_FILE: '/cert',
    ETCD_KEY_FILE: '/key',
  });
  expect(config).toEqual({
    type: 'etcdv3',
    endpoints: ['https://a:2379'],
    credentials: { username: 'margay', password: 'secret' },
    tls: { caFile: '/ca', client: { certificateFile: '/cert', keyFile: '/key' } },
  });
});

test.each<[string, Record<string, string>]>([
  ['DATASTORE_TYPE', { DATASTORE_TYPE: 'kubernetes' }],
  ['ETCD_DISCOVERY_SRV', { ETCD_DISCOVERY_SRV: 'example.org' }],
  ['ETCD_ENDPOINTS', { ETCD_ENDPOINTS: '127.0.0.1:2379' }],
  ['ETCD_ENDPOINTS', { ETCD_ENDPOINTS: 'http://a:1/path' }],
  ['ETCD_ENDPOINTS', { ETCD_ENDPOINTS: ',' }],
  ['ETCD_ENDPOINTS', { ETCD_ENDPOINTS: 'http://a:1,https://b:1' }],
  ['ETCD_ENDPOINTS', { ETCD_CA_CERT_FILE: '/ca' }],
  ['ETCD_USERNAME', { ETCD_PASSWORD: 'x' }],
  ['ETCD_PASSWORD', { ETCD_USERNAME: 'x' }],
  ['ETCD_CA_CERT_FILE', { ETCD_ENDPOINTS: 'https://a:1', ETCD_CERT_FILE: '/c', ETCD_KEY_FILE: '/k' }],
  ['ETCD_KEY_FILE', { ETCD_ENDPOINTS: 'https://a:1', ETCD_CA_CERT_FILE: '/ca', ETCD_CERT_FILE: '/c' }],
  ['ETCD_CERT_FILE', { ETCD_ENDPOINTS: 'https://a:1', ETCD_CA_CERT_FILE: '/ca', ETCD_KEY_FILE: '/k' }],
])('%s is named when %j cannot be used', (field, env) => {
  expect(() => readStoreConfig(env)).toThrow(expect.objectContaining({ field }));
  expect(() => readStoreConfig(env)).toThrow(InputError);
});

test('a certificate file that is not there is an error of the environment', () => {
  const config = readStoreConfig({ ETCD_ENDPOINTS: 'https://a:1', ETCD_CA_CERT_FILE: '/does/not/exist' });
  expect(() => openStore(config, createLog('test', 'silent'))).toThrow(EnvironmentError);
});
