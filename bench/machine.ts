import { cpus, loadavg, release, totalmem } from 'node:os';

/** What figures are read with: processor, memory, kernel, Node, and what else took part. */
export function machineLines(versions: readonly string[], command: string): string {
  const [processor] = cpus();
  const gigabytes = Math.round(totalmem() / 2 ** 30);
  const day = new Date().toISOString().slice(0, 10);
  return [
    `- Measured on ${day} with \`${command}\`; load average ${loadavg()
      .map((load) => load.toFixed(1))
      .join(', ')} at the end`,
    `- Machine: ${cpus().length} × ${processor?.model.trim() ?? 'unknown processor'}, ${gigabytes} GB, Linux ${release()}`,
    `- Versions: Node ${process.version.slice(1)}, ${versions.join(', ')}`,
  ].join('\n');
}
