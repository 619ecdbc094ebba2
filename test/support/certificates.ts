import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** PEM files of one certificate and its key. */
export interface Pair {
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** When a certificate holds, as `YYYYMMDDHHMMSSZ`. */
export interface Validity {
  readonly from: string;
  readonly until: string;
}

/** A certificate authority in a directory of its own, that signs for 127.0.0.1. */
export interface TestAuthority {
  /** Where all its files are. */
  readonly directory: string;
  readonly caFile: string;
  /** Signs a certificate for servers and clients; its subject is CN=`name`. */
  issue(name: string, validity?: Validity): Promise<Pair>;
  remove(): Promise<void>;
}

/** Makes an authority by `openssl`. */
export async function createAuthority(): Promise<TestAuthority> {
  const directory = await mkdtemp(join(tmpdir(), 'margay-ca-'));
  const openssl = (...words: string[]) => run('openssl', words, { cwd: directory });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const ca = ['-config', 'ca.cnf', '-cert', 'ca.pem', '-keyfile', 'ca-key.pem', '-batch', '-notext'];
  try {
    await writeFile(join(directory, 'ca.cnf'), configuration);
    await writeFile(join(directory, 'index.txt'), '');
    await openssl(
      'req',
      '-x509',
      '-config',
      'ca.cnf',
      ...key,
      '-keyout',
      'ca-key.pem',
      '-out',
      'ca.pem',
      '-subj',
      '/CN=test-ca',
    );
  } catch (thrown) {
    await rm(directory, { recursive: true, force: true });
    throw thrown;
  }
  return {
    directory,
    caFile: join(directory, 'ca.pem'),
    issue: async (name, validity) => {
      const [certificate, keyFile, request] = [`${name}.pem`, `${name}-key.pem`, `${name}.csr`];
      await openssl('req', '-config', 'ca.cnf', ...key, '-keyout', keyFile, '-out', request, '-subj', `/CN=${name}`);
      const dates = validity ? ['-startdate', validity.from, '-enddate', validity.until] : ['-days', '2'];
      await openssl('ca', ...ca, ...dates, '-in', request, '-out', certificate);
      return { certificateFile: join(directory, certificate), keyFile: join(directory, keyFile) };
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

const configuration = `
[ca]
default_ca = test
[test]
new_certs_dir = .
database = index.txt
rand_serial = yes
default_md = sha256
unique_subject = no
policy = any
x509_extensions = leaf
[any]
commonName = supplied
[req]
distinguished_name = subject
x509_extensions = authority
prompt = no
[subject]
CN = test
[authority]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf]
subjectAltName = IP:127.0.0.1
extendedKeyUsage = serverAuth,clientAuth
`;
