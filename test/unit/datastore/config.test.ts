import { expect, test } from 'vitest';
import { EnvironmentError, InputError } from '../../../src/base/errors.ts';
import { createLog } from '../../../src/base/log.ts';
import { openStore, readStoreConfig } from '../../../src/datastore/open.ts';

test('endpoints are a comma list, and the default is the local member', () => {
  expect(readStoreConfig({})).toEqual({ type: 'etcdv3', endpoints: ['http://127.0.0.1:2379'] });
  const ETCD_ENDPOINTS = 'http://10.0.0.1:2379, http://[fd00::1]:2379/,';
  expect(readStoreConfig({ DATASTORE_TYPE: 'etcdv3', ETCD_ENDPOINTS })).toEqual({
    type: 'etcdv3',
    endpoints: ['http://10.0.0.1:2379', 'http://[fd00::1]:2379'],
  });
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
    CALICO_ETCD_NAMESPACE: '/tenants/a',
  });
  expect(config).toEqual({
    type: 'etcdv3',
    endpoints: ['https://a:2379'],
    credentials: { username: 'margay', password: 'secret' },
    tls: { caFile: '/ca', client: { certificateFile: '/cert', keyFile: '/key' } },
    namespace: '/tenants/a',
  });
});

test.each<[string, Record<string, string>]>([
  ['DATASTORE_TYPE', { DATASTORE_TYPE: 'consul' }],
  ['KUBECONFIG', { DATASTORE_TYPE: 'kubernetes' }],
  [
    'KUBERNETES_SERVICE_PORT',
    { DATASTORE_TYPE: 'kubernetes', KUBERNETES_SERVICE_HOST: 'h', KUBERNETES_SERVICE_PORT: 'x' },
  ],
  ['CALICO_API_GROUP', { DATASTORE_TYPE: 'kubernetes', CALICO_API_GROUP: 'projectcalico.org/v1' }],
  ['ETCD_DISCOVERY_SRV', { ETCD_DISCOVERY_SRV: 'example.org' }],
  ['ETCD_ENDPOINTS', { ETCD_ENDPOINTS: '127.0.0.1:2379' }],
  ['ETCD_ENDPOINTS', { ETCD_ENDPOINTS: 'http://a:1/path' }],
  ['ETCD_ENDPOINTS', { ETCD_ENDPOINTS: ',' }],
  ['ETCD_NAMESPACE', { ETCD_NAMESPACE: 'tenants/a' }],
  ['ETCD_NAMESPACE', { ETCD_NAMESPACE: '/tenants/' }],
  ['ETCD_NAMESPACE', { ETCD_NAMESPACE: '/calico' }],
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

test('Kubernetes: a kubeconfig, else the service account of the Pod, else the one at home', () => {
  const type = 'kubernetes';
  const env = { DATASTORE_TYPE: type, HOME: '/root', KUBERNETES_SERVICE_HOST: 'fd00::1' };
  expect(readStoreConfig({ ...env, KUBECONFIG: '/a:/b', FELIX_INTERFACEPREFIX: 'tap,cali' })).toEqual({
    type,
    access: { by: 'kubeconfig', files: ['/a', '/b'] },
    interfacePrefix: 'tap',
  });
  const directory = '/var/run/secrets/kubernetes.io/serviceaccount';
  expect(readStoreConfig(env)).toEqual({
    type,
    access: { by: 'serviceAccount', server: 'https://[fd00::1]:443', directory },
    interfacePrefix: 'cali',
  });
  expect(readStoreConfig({ DATASTORE_TYPE: type, HOME: '/root' })).toMatchObject({
    access: { by: 'kubeconfig', files: ['/root/.kube/config'] },
  });
});

test('a certificate file that is not there is an error of the environment', () => {
  const config = readStoreConfig({ ETCD_ENDPOINTS: 'https://a:1', ETCD_CA_CERT_FILE: '/does/not/exist' });
  expect(() => openStore(config, createLog('test', 'silent'))).toThrow(EnvironmentError);
});
