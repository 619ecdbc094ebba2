import { pause } from '../base/clock.ts';
import { type Audit, audit, standing } from '../ipam/audit.ts';
import { readLists } from '../ipam/audit-index.ts';
import type { Deps } from './apply.ts';
import { ExitError, exitCode } from './exit.ts';
import { type Format, formatTable, print } from './output.ts';

/** Between two looks; what is gone at the second was a change under way. */
const secondLookMs = 1000;

/** Prints what an audit finds, if it is still there a second later. @throws ExitError with 1 when something is */
export async function checkIpam(graceSeconds: number, { store, clock }: Deps, format: Format): Promise<void> {
  const look = async () => audit(await readLists(store), { now: clock.wall(), graceSeconds });
  const first = await look();
  let result = first;
  if (first.findings.length > 0) {
    await pause(clock, secondLookMs);
    result = standing(first, await look());
  }
  print(format, result, () => auditPage(result));
  if (result.findings.length > 0) throw new ExitError(exitCode.failure, '');
}

/** A row for each finding, and what was looked at. Pure. */
export function auditPage({ addresses, unjudged, findings }: Audit): string {
  const rows = findings.map(({ problem, subject, node = '', detail, repair }) => [
    problem,
    subject,
    node,
    detail,
    repair,
  ]);
  const table =
    rows.length === 0 ? '' : formatTable({ columns: ['problem', 'what', 'node', 'detail', 'repair'], rows });
  const found = findings.length === 0 ? 'nothing is wrong' : `${findings.length} found`;
  const rest = unjudged === 0 ? '' : `, ${unjudged} of them not judged`;
  return `${table}${found}; ${addresses} addresses held${rest}\n`;
}
