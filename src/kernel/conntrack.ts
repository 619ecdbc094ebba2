import { type Family, familyOf, type Ip } from '../model/address.ts';
import { type Launch, runCommand } from './command.ts';

/**
 * The four places of an address in a flow: source and destination of the original direction and, after address
 * translation, of the reply (conntrack(8)).
 */
const places = ['--orig-src', '--orig-dst', '--reply-src', '--reply-dst'] as const;

/**
 * Deletes all flows of an address, so that nobody who gets it later receives them, and returns how many there were.
 * None is success. @throws EnvironmentError without the program; Error with its words when the kernel refuses
 */
export async function deleteFlows(address: Ip, launch: Launch = {}): Promise<number> {
  const counts = await Promise.all(places.map((place) => deletePlace(address, familyOf(address), place, launch)));
  return counts.reduce((sum, count) => sum + count, 0);
}

async function deletePlace(address: Ip, family: Family, place: string, launch: Launch): Promise<number> {
  const command = ['conntrack', '-D', '-f', family === 6 ? 'ipv6' : 'ipv4', place, address];
  const { status, stderr } = await runCommand(command, { ...launch, package: 'conntrack' });
  const count = /(\d+) flow entries have been deleted/.exec(stderr)?.[1];
  // It exits with 1 both for no flows and for failures; only in the first case does it count.
  if (count !== undefined && (status === 0 || Number(count) === 0)) return Number(count);
  throw new Error(`${command.join(' ')}: ${stderr.trim() || `status ${status}`}`);
}
