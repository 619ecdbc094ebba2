import { z } from 'zod';
import { InputError } from '../base/errors.ts';
import { createLog } from '../base/log.ts';
import type { Event } from '../datastore/store.ts';
import { parseIp } from '../model/address.ts';
import { issuesOf, parseResource } from '../model/kinds.ts';
import { apiVersion } from '../model/resource.ts';
import { parseDestination, parseParty } from '../policy/ends.ts';
import { type AnyAnswer, answerAny } from '../policy/service-question.ts';
import { readObjects } from './documents.ts';

/*
 * Assertions of reachability, for the CI of a repository of policies: which connections must be allowed or denied, and
 * the pods that they are about where no datastore gives them.
 */

const podShape = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9.-]{0,252}$/, 'expected the name of a pod'),
  namespace: z.string().min(1).max(63).optional(),
  labels: z.record(z.string(), z.string()).optional(),
  serviceAccount: z.string().min(1).optional(),
  address: z.string().optional(),
  ports: z
    .array(
      z.strictObject({
        name: z.string().min(1),
        port: z.number().int().min(1).max(65535),
        protocol: z.enum(['TCP', 'UDP', 'SCTP']).default('TCP'),
      }),
    )
    .optional(),
});

const casesShape = z.strictObject({
  pods: z.array(podShape).max(65_000).default([]),
  cases: z
    .array(
      z.strictObject({
        name: z.string().optional(),
        from: z.string(),
        to: z.string(),
        expect: z.enum(['allow', 'deny']),
      }),
    )
    .min(1),
});

export type Cases = z.output<typeof casesShape> & {
  /** `cases.yaml:6: cases[1].to` for a field of the file. */
  readonly placeOf: (field: string) => string;
};

/** @throws InputError with line, field and value of the first problem */
export function readCases(text: string, file: string): Cases {
  const { objects, faults } = readObjects(text, file);
  const [fault] = faults;
  if (fault) throw fault;
  const [raw] = objects;
  if (!raw || objects.length > 1) throw new InputError(file, `${objects.length} documents`, 'one document with cases');
  const result = casesShape.safeParse(raw.value);
  const placeOf = (field: string) => `${file}:${raw.lineOf(field)}: ${field || 'document'}`;
  if (result.success) return { ...result.data, placeOf };
  const [first] = issuesOf(result.error, raw.value, '');
  if (!first) throw new InputError(file, raw.value, 'cases');
  throw new InputError(placeOf(first.field.replace(/^\./, '')), first.value, first.expected);
}

/**
 * The pods of a case file as the endpoints that they would be. One without an address gets one of 100.64.0.0/10
 * (RFC 6598), which policies for the world outside hardly name.
 * @throws InputError for an address that is none
 */
export function podEvents({ pods, placeOf }: Cases, namespace: string): Event[] {
  return pods.map((pod, at): Event => {
    const space = pod.namespace ?? namespace;
    const next = at + 1;
    const address = parseIp(pod.address ?? `100.64.${next >> 8}.${next & 255}`, placeOf(`pods[${at}].address`));
    const value = parseResource('WorkloadEndpoint', {
      kind: 'WorkloadEndpoint',
      apiVersion,
      metadata: { name: `test-k8s-${pod.name}-eth0`, namespace: space, labels: pod.labels ?? {} },
      spec: {
        orchestrator: 'k8s',
        node: 'test',
        endpoint: 'eth0',
        pod: pod.name,
        interfaceName: `cali${at}`,
        ipNetworks: [`${address}/${address.includes(':') ? 128 : 32}`],
        profiles: [`kns.${space}`, ...(pod.serviceAccount === undefined ? [] : [`ksa.${space}.${pod.serviceAccount}`])],
        ...(pod.serviceAccount !== undefined && { serviceAccountName: pod.serviceAccount }),
        ...(pod.ports && { ports: pod.ports }),
      },
    });
    return {
      op: 'set',
      entry: { key: { type: 'WorkloadEndpoint', namespace: space, name: value.metadata.name }, value, revision: '0' },
    };
  });
}

export interface CaseResult {
  readonly name: string;
  readonly expected: 'allow' | 'deny';
  readonly passed: boolean;
  readonly answer: AnyAnswer;
}

/** What a question calls its ends, as a case does. */
const askedAs: Readonly<Record<string, string>> = { source: 'from', destination: 'to' };

/** Asks every case; a service must be reached as expected at all its endpoints. @throws InputError naming the case, for an end that does not exist or cannot be read */
export function runCases({ cases, placeOf }: Cases, cluster: readonly Event[], namespace: string): CaseResult[] {
  const log = createLog('margayctl', 'silent');
  return cases.map(({ name, from, to, expect }, at) => {
    const source = parseParty(from, namespace, placeOf(`cases[${at}].from`));
    const destination = parseDestination(to, namespace, placeOf(`cases[${at}].to`));
    try {
      const found = answerAny(cluster, { source, ...destination }, log);
      return { name: name ?? `${from} -> ${to}`, expected: expect, passed: found.verdict === expect, answer: found };
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      throw new InputError(
        placeOf(`cases[${at}].${askedAs[thrown.field] ?? thrown.field}`),
        thrown.value,
        thrown.expected,
        { cause: thrown },
      );
    }
  });
}
