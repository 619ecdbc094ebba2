import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import type { Launch } from '../command.ts';

/** How one input fared: as a process of its own would have ended. */
export interface SessionResult {
  /** 0: committed. Otherwise the exit status; -1 when it was killed, which `stderr` then says. */
  readonly status: number;
  readonly stderr: string;
  /** Lines that the program had read before this input: its messages count from its start. */
  readonly linesBefore: number;
}

export interface SessionOptions extends Launch {
  readonly command: readonly string[];
  /** Killed when an input is not committed after this long. */
  readonly timeoutSeconds: number;
  /** Ended when nothing was asked of it for this long. */
  readonly idleSeconds: number;
}

/**
 * A restore program kept running between applies. `iptables-nft-restore` commits in a tenth of a millisecond and then
 * spends ten on closing its netlink socket, where the kernel waits for a grace period; a new process for each apply
 * would put that on the path of every pod's start. The program echoes comment lines in verbose mode: a comment that
 * comes back says that everything before it has been committed. It is started with line buffering (stdbuf), since its
 * output is a pipe. When an input is refused the program ends, and the next input starts it anew.
 */
export class RestoreSession {
  #child: Child | undefined;
  #inputs = 0;

  constructor(private readonly options: SessionOptions) {}

  /** One input at a time. Rejects when the program cannot be started (`ENOENT`). */
  async run(lines: readonly string[]): Promise<SessionResult> {
    const child = this.#child ?? this.#start();
    this.#child = child;
    const linesBefore = child.lines;
    const mark = `# input ${++this.#inputs}`;
    child.lines += lines.length + 1;
    try {
      const ending = await child.commit(`${lines.join('\n')}\n${mark}\n`, mark, this.options.timeoutSeconds);
      if (ending === undefined) return { status: 0, stderr: '', linesBefore };
      this.#child = undefined;
      return { ...ending, linesBefore };
    } catch (cause) {
      this.#child = undefined;
      throw cause;
    }
  }

  #start(): Child {
    const [program = '', ...args] = [...(this.options.launcher ?? []), 'stdbuf', '-oL', ...this.options.command];
    const began = performance.now();
    const spawned = spawn(program, args, { stdio: 'pipe', env: { ...process.env, LC_ALL: 'C' } });
    this.options.started?.((performance.now() - began) * 1000);
    const child: Child = new Child(spawned, this.options.idleSeconds, () => {
      if (this.#child === child) this.#child = undefined;
    });
    return child;
  }
}

interface Ending {
  readonly status: number;
  readonly stderr: string;
}

/** The running program. */
class Child {
  lines = 0;
  #stdout = '';
  #stderr = '';
  #waiting: { readonly mark: string; readonly settle: (outcome: Ending | Error | undefined) => void } | undefined;
  #ended: Ending | Error | undefined;
  #idle: NodeJS.Timeout | undefined;

  /** @param gone called when the program is not to be used any more */
  constructor(
    private readonly process: ChildProcessWithoutNullStreams,
    private readonly idleSeconds: number,
    private readonly gone: () => void,
  ) {
    process.stdout.setEncoding('utf8').on('data', (chunk: string) => this.#read(chunk));
    process.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      this.#stderr = (this.#stderr + chunk).slice(-16_384);
    });
    process.stdin.on('error', () => process.kill('SIGKILL'));
    process.once('error', (cause) => this.#end(cause));
    process.once('close', (status, signal) =>
      this.#end({ status: status || -1, stderr: `${this.#stderr}${signal ? `ended by ${signal}` : ''}` }),
    );
    // An idle program must not keep this process from ending; it ends with its standard input.
    process.unref();
    for (const stream of [process.stdin, process.stdout, process.stderr]) unref(stream);
  }

  /** Undefined: committed. */
  async commit(input: string, mark: string, timeoutSeconds: number): Promise<Ending | undefined> {
    clearTimeout(this.#idle);
    const outcome = await new Promise<Ending | Error | undefined>((settle) => {
      if (this.#ended) return settle(this.#ended);
      const timer = setTimeout(() => this.process.kill('SIGKILL'), timeoutSeconds * 1000);
      this.#stderr = '';
      this.#waiting = {
        mark,
        settle: (found) => {
          clearTimeout(timer);
          this.#waiting = undefined;
          settle(found);
        },
      };
      this.process.stdin.write(input);
    });
    if (outcome instanceof Error) throw outcome;
    if (outcome === undefined) this.#rest();
    return outcome;
  }

  #rest(): void {
    this.#idle = setTimeout(() => {
      this.gone();
      this.process.stdin.end();
    }, this.idleSeconds * 1000);
    this.#idle.unref();
  }

  #read(chunk: string): void {
    this.#stdout += chunk;
    const lines = this.#stdout.split('\n');
    this.#stdout = lines.pop() ?? '';
    if (this.#waiting && lines.includes(this.#waiting.mark)) this.#waiting.settle(undefined);
  }

  #end(how: Ending | Error): void {
    this.#ended ??= how;
    clearTimeout(this.#idle);
    this.gone();
    this.#waiting?.settle(this.#ended);
  }
}

/** Pipes of a child are sockets underneath; the stream types do not say so. */
function unref(stream: object): void {
  if ('unref' in stream && typeof stream.unref === 'function') stream.unref();
}
