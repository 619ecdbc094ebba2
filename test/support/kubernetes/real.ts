import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { ApiClient, type ApiListing } from '../../../src/datastore/kubernetes/client.ts';
import type { KubernetesConfig } from '../../../src/datastore/kubernetes/config.ts';
import { Credentials } from '../../../src/datastore/kubernetes/credentials.ts';
import { ApiServer } from '../../../src/datastore/kubernetes/http.ts';
import { type ApiObject, apiVersionOf, builtIn, calico } from '../../../src/datastore/kubernetes/resources.ts';
import { calicoResources, idOf } from './objects.ts';

/** Without it nothing is touched: the suite deletes every object of Calico's kinds. */
const marker = { resource: builtIn('', 'v1', 'Namespace', 'namespaces', false), name: 'margay-test' };
const namespaces = ['default', 'shop'];

/**
 * Any cluster behind a kubeconfig, as another client sees it. deploy/crds must be applied, and the namespace
 * `margay-test` must exist to say that the cluster is for tests.
 */
export class OtherClient {
  readonly config: KubernetesConfig;
  readonly #server: ApiServer;
  readonly #client: ApiClient;

  constructor(kubeconfig: string) {
    this.config = { type: 'kubernetes', access: { by: 'kubeconfig', files: [kubeconfig] }, interfacePrefix: 'cali' };
    const log = createLog('test', 'silent');
    this.#server = new ApiServer(new Credentials(this.config, systemClock, log), systemClock, log);
    this.#client = new ApiClient(this.#server, systemClock, log, {});
  }

  /** Empties Calico's kinds, and makes the namespaces that the suites use. @throws Error when it is no test cluster */
  async reset(): Promise<void> {
    if ((await this.#client.get(marker)) === undefined)
      throw new Error('the cluster has no namespace margay-test, and so is not for tests');
    for (const { kind, plural, namespaced } of calicoResources) {
      const resource = calico(kind, plural, namespaced);
      const { objects }: ApiListing = await this.#client.list(resource, {});
      for (const { metadata } of objects)
        await this.#client.delete({
          ...{ resource, name: metadata.name },
          ...(metadata.namespace !== undefined && { namespace: metadata.namespace }),
        });
    }
    for (const name of namespaces)
      await this.#client.create(marker.resource, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  }

  async create(id: string, object: ApiObject): Promise<void> {
    const resource = resourceOf(id);
    const typed = { ...object, apiVersion: apiVersionOf(resource), kind: resource.kind };
    const { outcome } = await this.#client.create(resource, typed);
    if (outcome !== 'written') throw new Error(`${id} ${object.metadata.name}: ${outcome}`);
  }

  async get(id: string, namespace: string, name: string): Promise<ApiObject | undefined> {
    return this.#client.get({ resource: resourceOf(id), name, ...(namespace !== '' && { namespace }) });
  }

  close(): void {
    this.#server.close();
  }
}

function resourceOf(id: string) {
  const found = calicoResources.find((each) => idOf(each) === id);
  if (!found) throw new Error(`no resource ${id}`);
  return calico(found.kind, found.plural, found.namespaced);
}
