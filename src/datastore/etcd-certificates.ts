import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { EnvironmentError, explain } from '../base/errors.ts';
import type { EtcdConfig } from './config.ts';

/*
 * The PEM files of ETCD_CA_CERT_FILE, ETCD_CERT_FILE and ETCD_KEY_FILE, which whoever issues certificates replaces
 * while we run. Contents are compared, not times: a mounted secret is replaced by turning a symbolic link.
 */

type Tls = NonNullable<EtcdConfig['tls']>;

/** As the client library takes them. */
export interface Certificates {
  readonly rootCertificate: Buffer;
  readonly certChain?: Buffer;
  readonly privateKey?: Buffer;
}

/**
 * Reads the files and checks that they belong together.
 * @throws EnvironmentError naming the setting and the file, when one cannot be read, is no PEM, or the key is another's
 */
export function readCertificates({ caFile, client }: Tls): Certificates {
  const rootCertificate = readPem('ETCD_CA_CERT_FILE', caFile);
  parseCertificate('ETCD_CA_CERT_FILE', caFile, rootCertificate);
  if (client === undefined) return { rootCertificate };
  const { certificateFile, keyFile } = client;
  const certChain = readPem('ETCD_CERT_FILE', certificateFile);
  const privateKey = readPem('ETCD_KEY_FILE', keyFile);
  const certificate = parseCertificate('ETCD_CERT_FILE', certificateFile, certChain);
  if (!certificate.checkPrivateKey(parseKey(keyFile, privateKey)))
    throw new EnvironmentError(
      `ETCD_KEY_FILE: ${keyFile} is not the key of the certificate in ${certificateFile}`,
      'replace both files together',
    );
  return { rootCertificate, certChain, privateKey };
}

/** Whether both are the same octet for octet. */
export function sameCertificates(one: Certificates, other: Certificates): boolean {
  const same = (a: Buffer | undefined, b: Buffer | undefined) => (a && b ? a.equals(b) : a === b);
  return (
    same(one.rootCertificate, other.rootCertificate) &&
    same(one.certChain, other.certChain) &&
    same(one.privateKey, other.privateKey)
  );
}

/** What OpenSSL says of a server's certificate, and what that means here. */
const verdicts: readonly (readonly [RegExp, (tls: Tls) => string])[] = [
  [/certificate has expired/, () => "the server's certificate has expired"],
  [/certificate is not yet valid/, () => "the server's certificate is not valid yet"],
  [
    /unable to (verify|get)|self[- ]signed|issuer|certificate signature failure/,
    ({ caFile }) => `the server's certificate is not signed by the authority in ETCD_CA_CERT_FILE (${caFile})`,
  ],
  [/altnames|does not match/, () => "the server's certificate is for another name"],
  [
    /alert/,
    ({ client }) =>
      client
        ? `the server refuses the certificate in ETCD_CERT_FILE (${client.certificateFile})`
        : 'the server asks for a client certificate: set ETCD_CERT_FILE and ETCD_KEY_FILE',
  ],
];

/**
 * Why TLS with an etcd failed, in words of the settings; undefined when it is not about certificates.
 * @param cause what the library says of the failed call
 * @param now wall clock, to tell whether our own certificate is out of date
 */
export function tlsFailure(tls: Tls, certificates: Certificates, cause: unknown, now: Date): string | undefined {
  const text = explain(cause);
  if (!/No connection established/.test(text)) return undefined;
  const verdict = verdicts.find(([pattern]) => pattern.test(text))?.[1](tls);
  const outdated = ownExpiry(tls, certificates, now);
  if (verdict !== undefined && outdated !== undefined) return `${verdict}; ${outdated}`;
  return verdict ?? outdated;
}

function ownExpiry({ client }: Tls, { certChain }: Certificates, now: Date): string | undefined {
  if (client === undefined || certChain === undefined) return undefined;
  const { validFromDate, validToDate } = new X509Certificate(certChain);
  const named = `the certificate in ETCD_CERT_FILE (${client.certificateFile})`;
  if (now > validToDate) return `${named} expired at ${validToDate.toISOString()}`;
  if (now < validFromDate) return `${named} is not valid before ${validFromDate.toISOString()}`;
  return undefined;
}

function readPem(setting: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new EnvironmentError(`${setting}: ${path} cannot be read`, 'mount the file or correct the path', { cause });
  }
}

function parseCertificate(setting: string, path: string, pem: Buffer): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new EnvironmentError(`${setting}: ${path} holds no certificate`, 'give a PEM file', { cause });
  }
}

function parseKey(path: string, pem: Buffer) {
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    throw new EnvironmentError(`ETCD_KEY_FILE: ${path} holds no private key`, 'give a PEM file without a passphrase', {
      cause,
    });
  }
}
