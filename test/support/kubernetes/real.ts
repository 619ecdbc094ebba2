import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { formatJson, parseJson } from '../../../src/datastore/json.ts';
import { ApiClient, type ApiListing } from '../../../src/datastore/kubernetes/client.ts';
import type { KubernetesConfig } from '../../../src/datastore/kubernetes/config.ts';
import { Credentials } from '../../../src/datastore/kubernetes/credentials.ts';
import { ApiServer } from '../../../src/datastore/kubernetes/http.ts';
import {
  type ApiObject,
  type ApiResource,
  apiVersionOf,
  builtIn,
  type CalicoGroup,
  calicoGroup,
} from '../../../src/datastore/kubernetes/resources.ts';
import { createKubernetesStore } from '../../../src/datastore/kubernetes/store.ts';
import type { Subject } from '../../contract/store.ts';
import { objectOfText, placeOfEtcdKey } from './cluster.ts';
import { calicoResources, idOf, v3Resources } from './objects.ts';

/** Without it nothing is touched: the suite deletes every object of Calico's kinds. */
const marker = { resource: builtIn('', 'v1', 'Namespace', 'namespaces', false), name: 'margay-test' };
const namespaces = ['default', 'shop'];

/**
 * Any cluster behind a kubeconfig, as another client sees it. The definitions of the group must be there (deploy/crds),
 * and the namespace `margay-test` must exist to say that the cluster is for tests.
 */
class OtherClient {
  readonly config: KubernetesConfig;
  readonly #resources: readonly ApiResource[];
  readonly #server: ApiServer;
  readonly #client: ApiClient;

  constructor(kubeconfig: string, group: CalicoGroup) {
    const access = { by: 'kubeconfig', files: [kubeconfig] } as const;
    this.config = { type: 'kubernetes', access, interfacePrefix: 'cali', group };
    this.#resources = group === calicoGroup ? calicoResources : v3Resources;
    const log = createLog('test', 'silent');
    this.#server = new ApiServer(new Credentials(this.config, systemClock, log), systemClock, log);
    this.#client = new ApiClient(this.#server, systemClock, log, {});
  }

  /** Empties Calico's kinds, and makes the namespaces that the suites use. @throws Error when it is no test cluster */
  async reset(): Promise<void> {
    if ((await this.#client.get(marker)) === undefined)
      throw new Error('the cluster has no namespace margay-test, and so is not for tests');
    for (const resource of this.#resources) {
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
    const resource = this.#resource(id);
    const typed = { ...object, apiVersion: apiVersionOf(resource), kind: resource.kind };
    const { outcome } = await this.#client.create(resource, typed);
    if (outcome !== 'written') throw new Error(`${id} ${object.metadata.name}: ${outcome}`);
  }

  async get(id: string, namespace: string, name: string): Promise<ApiObject | undefined> {
    return this.#client.get({ resource: this.#resource(id), name, ...(namespace !== '' && { namespace }) });
  }

  close(): void {
    this.#server.close();
  }

  #resource(id: string): ApiResource {
    const found = this.#resources.find((each) => idOf({ ...each, custom: true, status: false }) === id);
    if (!found) throw new Error(`no resource ${id}`);
    return found;
  }
}

/** A store by a kubeconfig, looked at by another client that uses the API alone. */
export async function subjectBehind(kubeconfig: string, group: CalicoGroup = calicoGroup): Promise<Subject> {
  const other = new OtherClient(kubeconfig, group);
  await other.reset();
  const store = createKubernetesStore(other.config, createLog('test', 'silent'), { chunk: 2 });
  return {
    store,
    layout: group === calicoGroup ? 'kubernetes' : 'kubernetes-v3',
    plant: async (key, text) => {
      const place = placeOfEtcdKey(key, group);
      if (place) await other.create(place.id, objectOfText(place.name, place.namespace, text, parseJson));
    },
    raw: async (key) => {
      const place = placeOfEtcdKey(key, group);
      const object = place && (await other.get(place.id, place.namespace, place.name));
      if (!object) return undefined;
      const { resourceVersion: _, ...metadata } = object.metadata;
      return formatJson({ ...object, metadata });
    },
    close: async () => {
      store.close();
      other.close();
    },
  };
}
