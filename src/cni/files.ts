import { randomUUID } from 'node:crypto';
import { chmod, constants, copyFile, open, rename, rm } from 'node:fs/promises';

/* Files that appear whole or not at all: a reader sees the old one or the new one, and a crash leaves either. */

/** Writes `text` beside `file` and renames it there. @param mode permissions, whatever the umask is */
export async function replaceFile(file: string, text: string, mode = 0o644): Promise<void> {
  await replacing(file, async (beside) => {
    const handle = await open(beside, 'wx', mode);
    try {
      await handle.chmod(mode);
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
  });
}

/** A program that runs keeps the old executable: its file is replaced, never written to. */
export async function replaceExecutable(from: string, to: string): Promise<void> {
  await replacing(to, async (beside) => {
    await copyFile(from, beside, constants.COPYFILE_EXCL);
    await chmod(beside, 0o755);
  });
}

async function replacing(file: string, write: (beside: string) => Promise<void>): Promise<void> {
  const beside = `${file}.${randomUUID()}`;
  try {
    await write(beside);
    await rename(beside, file);
  } catch (thrown) {
    await rm(beside, { force: true });
    throw thrown;
  }
}
