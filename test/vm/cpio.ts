/* Archives that the kernel unpacks as its first root file system: cpio, format newc (Documentation/driver-api/early-userspace). */

export interface CpioFile {
  readonly path: string;
  readonly data: Uint8Array;
  readonly executable?: boolean;
}

const folderMode = 0o040755;
const fileMode = 0o100644;
const programMode = 0o100755;

/** An archive of the files, with the folders that they are in. Several archives behind one another count as one. */
export function cpio(files: readonly CpioFile[]): Buffer {
  const folders = new Set(files.flatMap(({ path }) => parentsOf(path)));
  const entries = [
    ...[...folders].map((path) => entry(path, folderMode, new Uint8Array())),
    ...files.map(({ path, data, executable }) => entry(path, executable ? programMode : fileMode, data)),
    entry('TRAILER!!!', 0, new Uint8Array()),
  ];
  return padded(Buffer.concat(entries), 512);
}

/** `a/b/c` → `a`, `a/b`. */
function parentsOf(path: string): string[] {
  const parts = path.split('/').slice(0, -1);
  return parts.map((_, at) => parts.slice(0, at + 1).join('/'));
}

function entry(path: string, mode: number, data: Uint8Array): Buffer {
  const name = Buffer.from(`${path}\0`);
  const links = mode === folderMode ? 2 : 1;
  // c_ino, c_mode, c_uid, c_gid, c_nlink, c_mtime, c_filesize, four device numbers, c_namesize, c_check.
  const fields = [0, mode, 0, 0, links, 0, data.length, 0, 0, 0, 0, name.length, 0];
  const header = `070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`;
  return Buffer.concat([padded(Buffer.concat([Buffer.from(header), name]), 4), padded(Buffer.from(data), 4)]);
}

function padded(bytes: Buffer, to: number): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((to - (bytes.length % to)) % to)]);
}
