import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Namespace } from '../dataplane/felix/support.ts';

/** What passes a device, as lines of tcpdump; those of one packet follow the one that begins with the time. */
export class Sniffer {
  readonly lines: string[] = [];

  private constructor(private readonly stop: () => Promise<void>) {}

  /** Resolves once it listens. @param filter in tcpdump's words */
  static async listen(namespace: Namespace, device: string, filter: string): Promise<Sniffer> {
    const words = ['-n', '-l', '-v', '--immediate-mode', '-Z', 'root', '-i', device, ...filter.split(' ')];
    const child = spawn('nsenter', [`--net=${namespace.path}`, 'tcpdump', ...words]);
    const closed = once(child, 'close');
    const sniffer = new Sniffer(async () => {
      child.kill('SIGTERM');
      await closed;
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line !== '') sniffer.lines.push(line);
    });
    const complaints: string[] = [];
    await new Promise<void>((resolve, reject) => {
      createInterface({ input: child.stderr }).on('line', (line) => {
        complaints.push(line);
        if (line.includes('listening on')) resolve();
      });
      closed.then(() => reject(new Error(`tcpdump: ${complaints.join('; ')}`)), reject);
    });
    return sniffer;
  }

  /** Whether what was seen so far matches. */
  seen(pattern: RegExp): boolean {
    return pattern.test(this.lines.join('\n'));
  }

  close(): Promise<void> {
    return this.stop();
  }
}
