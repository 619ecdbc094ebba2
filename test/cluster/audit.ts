import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/* What the API server writes down of requests: who asked for what, and whether it was let. */

/** A request as audit.k8s.io/v1 has it. */
export interface Asked {
  readonly verb: string;
  readonly requestURI: string;
  readonly user: { readonly username: string };
  readonly responseStatus?: { readonly code?: number };
}

/** Only our accounts' requests, when they were answered. */
const policy = {
  ...{ apiVersion: 'audit.k8s.io/v1', kind: 'Policy', omitStages: ['RequestReceived', 'ResponseStarted'] },
  rules: [{ level: 'Metadata', userGroups: ['system:serviceaccounts:kube-system'] }, { level: 'None' }],
};

/** Options of an API server that keeps such a record in a folder. */
export function auditOptions(folder: string): string[] {
  writeFileSync(join(folder, 'audit.json'), JSON.stringify(policy));
  return ['--audit-policy-file', join(folder, 'audit.json'), '--audit-log-path', join(folder, 'audit.log')];
}

/** All requests so far of a service account of ours. */
export function askedBy(folder: string, account: string): Asked[] {
  const file = join(folder, 'audit.log');
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
  const all = lines.map((line) => JSON.parse(line) as Asked);
  return all.filter(({ user }) => user.username === `system:serviceaccount:kube-system:${account}`);
}

/**
 * What RBAC refused, and never let: a server that has just started refuses for a moment, until it has read its roles.
 */
export function refusals(asked: readonly Asked[]): string[] {
  const lines = (refused: boolean) =>
    asked
      .filter(({ responseStatus }) => (responseStatus?.code === 403) === refused)
      .map(({ verb, requestURI }) => `${verb} ${requestURI.split('?')[0]}`);
  const allowed = new Set(lines(false));
  return [...new Set(lines(true))].filter((line) => !allowed.has(line));
}
