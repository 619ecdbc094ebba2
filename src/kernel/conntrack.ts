import { Backoff } from '../base/backoff.ts';
import { pause, systemClock } from '../base/clock.ts';
import { familyOf, type Ip } from '../model/address.ts';
import { type Launch, runCommand } from './command.ts';

/**
 * The four places of an address in a flow: source and destination of the original direction and, after address
 * translation, of the reply (conntrack(8)).
 */
const places = ['--orig-src', '--orig-dst', '--reply-src', '--reply-dst'] as const;

/** conntrack lists, then deletes one by one, and stops at a flow that ended in between: it is started again. */
const attempts = 5;

/**
 * Deletes all flows of an address, so that nobody who gets it later receives them, and returns how many the last run for
 * each place counted. None is success. @throws EnvironmentError without the program; Error with its words otherwise
 */
export async function deleteFlows(address: Ip, launch: Launch = {}): Promise<number> {
  let count = 0;
  for (const place of places) count += await deletePlace(address, place, launch);
  return count;
}

async function deletePlace(address: Ip, place: string, launch: Launch): Promise<number> {
  const command = ['conntrack', '-D', '-f', familyOf(address) === 6 ? 'ipv6' : 'ipv4', place, address];
  const backoff = new Backoff(5, 100);
  for (let attempt = 1; ; attempt++) {
    const { status, stderr } = await runCommand(command, { ...launch, package: 'conntrack' });
    // The status is 1 both for no flows and for failures, but only in the first case does it count.
    const count = /(\d+) flow entries have been deleted/.exec(stderr)?.[1];
    if (count !== undefined) return Number(count);
    if (attempt === attempts) throw new Error(`${command.join(' ')}: ${stderr.trim() || `status ${status}`}`);
    await pause(systemClock, backoff.next());
  }
}
