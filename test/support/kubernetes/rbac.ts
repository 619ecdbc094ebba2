/* Role-based access control as the API server applies it: whether the rules of a ClusterRole allow a request. */

export interface Rule {
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  /** Empty or absent: all objects of the resources. */
  readonly resourceNames?: readonly string[];
  readonly nonResourceURLs?: readonly string[];
  readonly verbs: readonly string[];
}

/** What the role system:discovery lets everybody read who is known. */
const discovery = /^\/(apis?|openapi)(\/|$)/;

/** Whether any rule allows it. @param method of HTTP @param url path and query */
export function allowed(rules: readonly Rule[], method: string, url: string): boolean {
  const { pathname, searchParams } = new URL(url, 'http://server');
  const steps = pathname.split('/').slice(1);
  const resourceful = steps[0] === 'api' ? steps.length > 2 : steps[0] === 'apis' && steps.length > 3;
  if (!resourceful)
    return (
      discovery.test(pathname) ||
      rules.some(({ nonResourceURLs = [], verbs }) => nonResourceURLs.includes(pathname) && verbs.includes('get'))
    );
  const [group = '', ...rest] = steps[0] === 'api' ? ['', ...steps.slice(2)] : [steps[1], ...steps.slice(3)];
  const within = rest[0] === 'namespaces' && rest.length > 2 && rest[2] !== 'status';
  const [plural = '', name, part] = within ? rest.slice(2) : rest;
  const verb = verbOf(method, name, searchParams.has('watch'));
  const resource = part === undefined ? plural : `${plural}/${part}`;
  return rules.some(
    ({ apiGroups = [], resources = [], resourceNames = [], verbs }) =>
      apiGroups.includes(group) &&
      resources.includes(resource) &&
      verbs.includes(verb) &&
      (resourceNames.length === 0 || resourceNames.includes(name ?? '')),
  );
}

function verbOf(method: string, name: string | undefined, watch: boolean): string {
  switch (method) {
    case 'GET':
      return watch ? 'watch' : name === undefined ? 'list' : 'get';
    case 'POST':
      return 'create';
    case 'PUT':
      return 'update';
    case 'PATCH':
      return 'patch';
    default:
      return 'delete';
  }
}
