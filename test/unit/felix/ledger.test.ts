import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { FailureLedger } from '../../../src/felix/status.ts';
import { IptablesError } from '../../../src/kernel/types.ts';

test('a refused restore is shown with its line and told once, until it says something else or is over', () => {
  const lines: Record<string, unknown>[] = [];
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  let now = 0;
  const ledger = new FailureLedger(() => new Date(now++), createLog('test', 'info', sink));
  const refused = (line: string) => {
    const cause = new IptablesError(`iptables-nft-restore: unknown option: ${line}`, line);
    ledger.update([{ kind: 'iptables', item: 'IPv4', cause }]);
  };
  refused('-A cali-x -p tcp --odd');
  refused('-A cali-x -p tcp --odd');
  const message = 'iptables-nft-restore: unknown option: -A cali-x -p tcp --odd';
  const since = new Date(0).toISOString();
  expect(ledger.list).toEqual([{ kind: 'iptables', item: 'IPv4', message, since }]);
  expect(lines).toEqual([expect.objectContaining({ kind: 'iptables', item: 'IPv4', error: message })]);
  refused('-A cali-y -p udp --odd');
  expect(ledger.list[0]).toMatchObject({ message: expect.stringContaining('cali-y'), since });
  expect(lines[1]).toMatchObject({ error: expect.stringContaining('-A cali-y') });
  ledger.update([]);
  expect(ledger.list).toEqual([]);
  expect(lines).toHaveLength(3);
});
