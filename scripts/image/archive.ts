import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

/*
 * `archive.ts NAME OUTPUT LAYER…`: directories as the layers of an image, in one archive that is an OCI image layout and
 * what `docker save` writes at once. Names, times and owners are fixed, so that the same files make the same octets.
 */

/** What is fixed of the image, as deploy/Dockerfile says it. */
const config = {
  Env: ['PATH=/opt/margay/node_modules/.bin:/usr/sbin:/usr/bin:/sbin:/bin'],
  Entrypoint: ['/opt/margay/entrypoint'],
  WorkingDir: '/',
};
const media = 'application/vnd.oci.image';
/** The first second of Unix time: there is no better that is always the same. */
const created = new Date(0).toISOString();

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** Directory → tar file, entries by name. */
function tar(from: string, file: string): void {
  const fixed = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--format=gnu'];
  execFileSync('tar', ['-C', from, ...fixed, '-cf', file, '.'], { env: { ...process.env, LC_ALL: 'C' } });
}

/** Moves a file among the blobs. */
async function blob(layout: string, file: string, mediaType: string): Promise<Descriptor> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  const hex = hash.digest('hex');
  const size = Number(execFileSync('stat', ['-c', '%s', file], { encoding: 'utf8' }));
  renameSync(file, join(layout, 'blobs/sha256', hex));
  return { mediaType, digest: `sha256:${hex}`, size };
}

async function jsonBlob(layout: string, value: unknown, mediaType: string): Promise<Descriptor> {
  const file = join(layout, 'blob.json');
  writeFileSync(file, JSON.stringify(value));
  return blob(layout, file, mediaType);
}

/** @returns the digest of the image's manifest */
async function archive(name: string, output: string, layers: readonly string[]): Promise<string> {
  const layout = `${output}.layout`;
  mkdirSync(join(layout, 'blobs/sha256'), { recursive: true });
  try {
    const described: Descriptor[] = [];
    for (const layer of layers) {
      const file = join(layout, 'layer.tar');
      tar(layer, file);
      described.push(await blob(layout, file, `${media}.layer.v1.tar`));
    }
    const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
    const digests = described.map(({ digest }) => digest);
    const labels = labelsOf();
    const image = {
      ...{ created, architecture, os: 'linux', config: { ...config, Labels: labels } },
      ...{ rootfs: { type: 'layers', diff_ids: digests }, history: digests.map(() => ({ created })) },
    };
    const configuration = await jsonBlob(layout, image, `${media}.config.v1+json`);
    const mediaType = `${media}.manifest.v1+json`;
    const manifest = await jsonBlob(
      layout,
      { schemaVersion: 2, mediaType, config: configuration, layers: described },
      mediaType,
    );
    const annotations = {
      'io.containerd.image.name': name,
      'org.opencontainers.image.ref.name': name.split(':').at(-1),
    };
    const platform = { architecture, os: 'linux' };
    const index = {
      ...{ schemaVersion: 2, mediaType: `${media}.index.v1+json` },
      manifests: [{ ...manifest, platform, annotations }],
    };
    const path = ({ digest }: Descriptor) => `blobs/${digest.replace(':', '/')}`;
    const saved = [{ Config: path(configuration), RepoTags: [name], Layers: described.map(path) }];
    for (const [file, value] of Object.entries({
      'oci-layout': { imageLayoutVersion: '1.0.0' },
      'index.json': index,
      'manifest.json': saved,
    }))
      writeFileSync(join(layout, file), JSON.stringify(value));
    tar(layout, output);
    return manifest.digest;
  } finally {
    rmSync(layout, { recursive: true, force: true });
  }
}

function labelsOf(): Record<string, string> {
  const { name, version, license, description } = JSON.parse(
    readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8'),
  ) as Record<'name' | 'version' | 'license' | 'description', string>;
  const about = { title: name, version, licenses: license, description };
  return Object.fromEntries(Object.entries(about).map(([key, text]) => [`org.opencontainers.image.${key}`, text]));
}

const [, , name, output, ...layers] = process.argv;
if (name === undefined || output === undefined || layers.length === 0)
  throw new TypeError('archive.ts NAME OUTPUT LAYER…');
process.stdout.write(`${await archive(name, output, layers)}\n`);
