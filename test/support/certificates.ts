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

/** What a certificate says beside its name. */
export interface Holder {
  readonly validity?: Validity;
  /** The subject's O, which Kubernetes takes for a group of the user. */
  readonly organization?: string;
  /** subjectAltName, `IP:192.0.2.1` or `DNS:localhost`; default `IP:127.0.0.1`. */
  readonly alternatives?: readonly string[];
}

/** A certificate authority in a directory of its own. */
export interface TestAuthority {
  /** Where all its files are. */
  readonly directory: string;
  readonly caFile: string;
  /** Signs a certificate for servers and clients; its subject is CN=`name`. */
  issue(name: string, holder?: Holder): Promise<Pair>;
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
    issue: async (name, { validity, organization, alternatives = ['IP:127.0.0.1'] } = {}) => {
      const [certificate, keyFile] = [`${name}.pem`, `${name}-key.pem`];
      const [request, leaf] = [`${name}.csr`, `${name}.cnf`];
      const subject = `${organization === undefined ? '' : `/O=${organization}`}/CN=${name}`;
      await openssl('req', '-config', 'ca.cnf', ...key, '-keyout', keyFile, '-out', request, '-subj', subject);
      const dates = validity ? ['-startdate', validity.from, '-enddate', validity.until] : ['-days', '2'];
      await writeFile(join(directory, leaf), leafExtensions(alternatives));
      await openssl('ca', ...ca, ...dates, '-extfile', leaf, '-in', request, '-out', certificate);
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
[any]
organizationName = optional
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
`;

function leafExtensions(alternatives: readonly string[]): string {
  return `subjectAltName = ${alternatives.join(',')}\nextendedKeyUsage = serverAuth,clientAuth\n`;
}
