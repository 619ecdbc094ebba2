/** Where a thread's program is, for `new Worker(url, { execArgv })`. */
export interface WorkerProgram {
  readonly url: URL;
  readonly execArgv?: string[];
}

/**
 * From the sources Node strips and transforms the types itself; a bundle has the thread's own bundle beside it.
 * @param from `import.meta.url` of who starts the thread
 * @param bundled the thread's file in `dist/`
 * @param source its source, relative to `from`
 */
export function workerProgram(from: string, bundled: string, source: string): WorkerProgram {
  if (!from.endsWith('.ts')) return { url: new URL(`./${bundled}`, from) };
  return {
    url: new URL(source, from),
    execArgv: ['--experimental-transform-types', '--disable-warning=ExperimentalWarning'],
  };
}
