import { InputError } from '../base/errors.ts';
import { type Family, parseCidr } from '../model/address.ts';
import type { DesiredSet } from './types.ts';

/* IP sets as text of `ipset save` and `ipset restore` (ipset(8)). Pure. */

/** A set as it is in the kernel. */
export interface ActualSet {
  readonly type: string;
  readonly family: Family;
  readonly maxElements: number;
  /** Canonical as in DesiredSet; an element with options of its own (`nomatch`) has them after a space. */
  readonly members: ReadonlySet<string>;
}

/** IPSET_MAXNAMELEN less the final NUL. */
const longestName = 31;
/** A cap, not an allocation; Calico's default. */
const usualMaxElements = 1 << 20;

const memberForms = {
  'hash:net': /^[0-9a-fA-F.:]+\/\d{1,3}$/,
  'hash:ip,port': /^[0-9a-fA-F.:]+,(tcp|udp|sctp|udplite):\d{1,5}$/,
};

/** hash:net knows no prefix of length 0. */
const halves: Readonly<Record<string, readonly string[]>> = {
  '0.0.0.0/0': ['0.0.0.0/1', '128.0.0.0/1'],
  '::/0': ['::/1', '8000::/1'],
};

/** Whether a set of this name belongs to us. */
export function isOurSet(name: string): boolean {
  return /^cali[46]0/.test(name);
}

/** Output of `ipset save` → our sets by name. */
export function parseIpsetSave(text: string): Map<string, ActualSet> {
  const sets = new Map<string, ActualSet & { readonly members: Set<string> }>();
  for (const line of text.split('\n')) {
    const [command, name = '', what = '', ...options] = line.trimEnd().split(' ');
    if (!isOurSet(name)) continue;
    if (command === 'create') {
      const family = option(options, 'family') === 'inet6' ? 6 : 4;
      sets.set(name, { type: what, family, maxElements: Number(option(options, 'maxelem') ?? 0), members: new Set() });
    } else if (command === 'add') {
      const set = sets.get(name);
      if (set) set.members.add([canonical(set.type, what), ...options].join(' '));
    }
  }
  return sets;
}

/**
 * Lines of `ipset restore` that make the set as desired, and the set as it then is. Members change by deltas. A set that
 * must grow is filled beside and swapped in, as rules hold it by its place. Another type cannot be swapped in (the
 * kernel refuses unequal types): the old set is destroyed first, which fails while a rule refers to it.
 * @param spare gives a name that is not in use for the set that is filled beside
 * @throws InputError naming the set and the member
 */
export function planSet(desired: DesiredSet, actual: ActualSet | undefined, spare: () => string) {
  checkName(desired);
  const members = expanded(desired);
  const { type, family } = desired;
  const needed = Math.max(usualMaxElements, powerOfTwo(members.size));
  const fill = (name: string) => [create(name, desired, needed), ...additions(name, desired, members, new Set())];
  let lines: string[];
  let maxElements = needed;
  if (!actual) lines = fill(desired.name);
  else if (actual.type !== type || actual.family !== family) lines = [`destroy ${desired.name}`, ...fill(desired.name)];
  else if (actual.maxElements < members.size) lines = swapIn(spare(), desired.name, fill);
  else {
    maxElements = actual.maxElements;
    // Removals first: a nearly full set has room then.
    lines = [
      ...removals(desired.name, members, actual.members),
      ...additions(desired.name, desired, members, actual.members),
    ];
  }
  return { lines, after: { type, family, maxElements, members } satisfies ActualSet };
}

function swapIn(spare: string, name: string, fill: (name: string) => string[]): string[] {
  return [...fill(spare), `swap ${spare} ${name}`, `destroy ${spare}`];
}

/** A name of our own for a set on its way in, which is then taken. */
export function spareName(family: Family, taken: Set<string>): string {
  for (let number = 0; ; number++) {
    const name = `cali${family}0.tmp${number}`;
    if (taken.has(name)) continue;
    taken.add(name);
    return name;
  }
}

function create(name: string, { type, family }: DesiredSet, maxElements: number): string {
  return `create ${name} ${type} family ${family === 6 ? 'inet6' : 'inet'} maxelem ${maxElements}`;
}

function additions(name: string, set: DesiredSet, wanted: ReadonlySet<string>, present: ReadonlySet<string>): string[] {
  const lines: string[] = [];
  for (const member of wanted) {
    if (present.has(member)) continue;
    const address = member.split(/[/,]/, 1)[0] ?? '';
    if (!memberForms[set.type].test(member) || address.includes(':') !== (set.family === 6))
      throw new InputError(`IP set ${set.name}`, member, `a member of an IPv${set.family} ${set.type} set`);
    lines.push(`add ${name} ${member}`);
  }
  return lines;
}

function removals(name: string, wanted: ReadonlySet<string>, present: ReadonlySet<string>): string[] {
  const lines: string[] = [];
  for (const member of present) if (!wanted.has(member)) lines.push(`del ${name} ${member.split(' ')[0]}`);
  return lines;
}

function expanded(set: DesiredSet): ReadonlySet<string> {
  if (set.type !== 'hash:net' || !Object.keys(halves).some((all) => set.members.has(all))) return set.members;
  return new Set([...set.members].flatMap((member) => halves[member] ?? [member]));
}

function checkName({ name, family, type }: DesiredSet): void {
  const form = new RegExp(`^cali${family}0[^\\s]*$`);
  if (!form.test(name) || name.length > longestName)
    throw new InputError('IP set', name, `a name of at most ${longestName} characters that begins with cali${family}0`);
  if (!(type in memberForms)) throw new InputError(`IP set ${name}`, type, 'hash:net or hash:ip,port');
}

/** As ipset prints members → as DesiredSet has them. */
function canonical(type: string, member: string): string {
  if (type !== 'hash:net') return member;
  if (member.includes(':') && member.includes('.')) return parseCidr(member);
  if (member.includes('/')) return member;
  return member.includes(':') ? `${member}/128` : `${member}/32`;
}

function option(options: readonly string[], name: string): string | undefined {
  const at = options.indexOf(name);
  return at < 0 ? undefined : options[at + 1];
}

function powerOfTwo(atLeast: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, atLeast)));
}
