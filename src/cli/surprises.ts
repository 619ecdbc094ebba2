import { isDeepStrictEqual } from 'node:util';
import type { Event } from '../datastore/store.ts';
import { keyText } from '../datastore/store.ts';
import { isHarmless } from '../migrate/calico.ts';
import { type HostEndpoint, isKind, type WorkloadEndpoint } from '../model/kinds.ts';
import { isKubernetesObject } from '../model/kubernetes.ts';
import type { Selector } from '../model/selector.ts';
import { type CompiledPolicy, compilePolicy } from '../policy/compile.ts';
import { effectiveLabels, endpointOf, hostEndpointOf, type Labelled } from '../policy/endpoint.ts';
import type { Rule } from '../policy/ir.ts';
import type { LabelMap } from '../policy/labels.ts';
import type { SetRequest } from '../policy/members.ts';
import { networkSetOf } from '../policy/network-set.ts';
import { relationKeys } from '../policy/relative.ts';
import type { AnyPolicy } from '../policy/scope.ts';
import { isStaged, type StagedPolicy, unstaged } from '../policy/staged.ts';
import { builtInTiers } from '../policy/tiers.ts';
import { asWritten, ruleWarnings, type Warning } from '../policy/warnings.ts';
import { eventOf } from './cluster-objects.ts';
import type { Manifest, RawObject } from './documents.ts';

/* What is legal in a person's files, and hardly meant. Pure. */

/** An object of a file in which nothing is wrong. */
export interface Sound {
  readonly file: string;
  readonly raw: RawObject;
  readonly manifest: Manifest;
}

export interface Surprise {
  readonly file: string;
  /** Counted from 1. */
  readonly line: number;
  readonly field: string;
  readonly problem: string;
}

/** Everything surprising in the files, which are taken for the whole cluster as far as they say anything of it. */
export function surprises(sound: readonly Sound[]): Surprise[] {
  const known = knownOf(sound.map(({ manifest }) => eventOf(manifest)));
  const tiers = tiersOf(sound);
  const before = new Map<string, Sound>();
  return sound.flatMap((object) => {
    const key = keyText(object.manifest.key);
    const earlier = before.get(key);
    before.set(key, object);
    const warnings = [
      ...(earlier && !isDeepStrictEqual(earlier.manifest.value, object.manifest.value)
        ? [{ field: 'metadata.name', problem: `replaces ${placeOf(earlier)}, which has the same name` }]
        : []),
      ...ignoredFields(object.manifest),
      ...policyWarnings(object, known, tiers),
    ];
    return warnings.map(({ field, problem }) => ({
      file: object.file,
      line: object.raw.lineOf(field),
      field,
      problem,
    }));
  });
}

function placeOf({ file, raw }: Sound): string {
  return `the object at ${file}:${raw.line}`;
}

/** Fields of an object that ask for something, and that no agent of ours follows. */
export function ignoredFields({ key, ignored }: Manifest): Warning[] {
  return ignored.flatMap(({ field, value }) => {
    const name = field.replace(/^spec\./, '');
    if (isKind(key.type) && isHarmless(key.type, name, value)) return [];
    return [{ field, problem: 'not a field that Margay knows: it has no effect' }];
  });
}

/** Names of the tiers, and whether they deny what no rule decides. */
function tiersOf(sound: readonly Sound[]): ReadonlyMap<string, boolean> {
  const own = sound.flatMap(({ manifest: { key, value } }) =>
    key.type === 'Tier'
      ? [[key.name, (value as { spec: { defaultAction: string } }).spec.defaultAction === 'Deny'] as const]
      : [],
  );
  return new Map([...own, ...[...builtInTiers].map(([name, tier]) => [name, tier.defaultAction === 'deny'] as const)]);
}

function policyWarnings({ raw, manifest: { key, value } }: Sound, known: Known, tiers: ReturnType<typeof tiersOf>) {
  const staged = isStaged(key);
  if (!staged && key.type !== 'NetworkPolicy' && key.type !== 'GlobalNetworkPolicy') return [];
  if (staged && (value as StagedPolicy).spec.stagedAction === 'Delete') return [];
  const policy = staged ? unstaged(value as StagedPolicy) : (value as AnyPolicy);
  const kubernetes = isKubernetesObject(raw.value) || key.type === 'StagedKubernetesNetworkPolicy';
  const allowsOnly = kubernetes && key.type !== 'GlobalNetworkPolicy';
  const subject = !kubernetes ? 'spec.selector' : allowsOnly ? 'spec.podSelector' : 'spec.subject';
  const compiled = compilePolicy(policy, () => true);
  const { rules, tier } = compiled;
  const idle = selectsNothing(compiled.selector, known.endpoints, 'pods in the files');
  const nowhere = `tier ${tier} is not in the files; until it exists, what this selects is isolated`;
  // What a rule with labels of the subject's namespace selects is known for each subject alone.
  const peers = relationKeys(policy).length > 0 ? [] : peerWarnings(compiled, known);
  return [
    ...(idle === undefined ? [] : [{ field: subject, problem: idle }]),
    ...(tiers.has(tier) ? [] : [{ field: 'spec.tier', problem: nowhere }]),
    ...idleDirections(compiled, kubernetes ? 'policyTypes' : 'types'),
    // The rules of a Kubernetes NetworkPolicy only allow, and any of them may; none can stand in another's way.
    ...[...(allowsOnly ? [] : ruleWarnings(rules, tiers.get(tier) ?? true)), ...peers].map(({ field, problem }) => ({
      field: `spec.${field}`,
      problem,
    })),
  ];
}

/** Rules of a direction that the policy's types leave out. */
function idleDirections({ rules, ...policy }: CompiledPolicy, types: string): Warning[] {
  return (['ingress', 'egress'] as const).flatMap((direction) =>
    policy[direction] || rules[direction].length === 0
      ? []
      : [{ field: `spec.${direction}`, problem: `these rules have no effect: ${types} leave this direction out` }],
  );
}

/** Peers and named ports of rules that are nothing in the files. */
function peerWarnings({ rules, requests }: CompiledPolicy, known: Known): Warning[] {
  const byId = new Map(requests.map((request) => [request.id, request]));
  return (['ingress', 'egress'] as const).flatMap((direction) =>
    asWritten(rules[direction]).flatMap(([index, lines]) => {
      const wanted = new Set(lines.flatMap(setsOf).map((id) => byId.get(id)));
      const problems = [...wanted].flatMap((request) => (request ? emptyRequest(request, known) : []));
      return [...new Set(problems)].map((problem) => ({ field: `${direction}[${index}]`, problem }));
    }),
  );
}

/** The sets of which a packet's address or port must be a member. */
function setsOf({ match }: Rule) {
  const { sourceSets = [], destinationSets = [], sourcePortSets = [], destinationPortSets = [] } = match;
  return [...sourceSets, ...destinationSets, ...sourcePortSets, ...destinationPortSets];
}

function emptyRequest({ place, port, selector }: SetRequest, known: Known): string[] {
  if (place !== 'endpoints') return [];
  const members = known.members.filter(({ labels }) => selector.matches(labels));
  if (port && port !== 'all') {
    const named = members.some(({ ports }) =>
      ports.some(({ name, protocol }) => name === port.name && protocol === port.protocol),
    );
    return named || known.members.length === 0
      ? []
      : [`no pod in the files has the port ${port.name}/${port.protocol} here`];
  }
  const problem = selectsNothing(selector, known.members, 'pods and network sets in the files');
  return problem === undefined ? [] : [`${selector.canonical} ${problem}`];
}

function selectsNothing(selector: Selector, all: readonly Member[], what: string): string | undefined {
  if ([...selector.pins.values()].some((values) => values.length === 0))
    return 'contradicts itself and selects nothing';
  if (all.length === 0 || all.some(({ labels }) => selector.matches(labels))) return undefined;
  return `selects none of the ${what}`;
}

interface Member {
  readonly labels: LabelMap;
  readonly ports: Labelled['facts']['ports'];
}

interface Known {
  /** Pods and host endpoints, which policies can be about. */
  readonly endpoints: readonly Member[];
  /** These and network sets, which rules can name. */
  readonly members: readonly Member[];
}

/** What the files say of pods, host endpoints and network sets, with the labels that they inherit. */
function knownOf(cluster: readonly Event[]): Known {
  const inherited = new Map<string, LabelMap>();
  const [endpoints, sets]: [Labelled[], Labelled[]] = [[], []];
  for (const event of cluster) {
    if (event.op !== 'set') continue;
    const { key, value } = event.entry;
    if (key.type === 'Profile') {
      const { spec } = value as { spec: { labelsToApply?: Record<string, string> } };
      inherited.set(key.name, new Map(Object.entries(spec.labelsToApply ?? {})));
    } else if (key.type === 'WorkloadEndpoint') endpoints.push(endpointOf(keyText(key), value as WorkloadEndpoint));
    else if (key.type === 'HostEndpoint') endpoints.push(hostEndpointOf(keyText(key), value as HostEndpoint));
    else if (key.type === 'NetworkSet' || key.type === 'GlobalNetworkSet')
      sets.push(networkSetOf(keyText(key), key, value));
  }
  const member = (of: Labelled): Member => ({
    labels: effectiveLabels(of, (profile) => inherited.get(profile)),
    ports: of.facts.ports,
  });
  const all = endpoints.map(member);
  return { endpoints: all, members: endpoints.length === 0 ? [] : [...all, ...sets.map(member)] };
}
