import { systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import { formatLeaseSpec, type LeaseRecord, type LeaseStore, parseLeaseSpec, type StoredLease } from '../lease.ts';
import { ApiClient } from './client.ts';
import type { KubernetesConfig } from './config.ts';
import { Credentials } from './credentials.ts';
import { ApiServer } from './http.ts';
import { builtIn, type Place } from './resources.ts';

const leases = builtIn('coordination.k8s.io', 'v1', 'Lease', 'leases', true);

/** A coordination.k8s.io/v1 Lease, as the components of Kubernetes elect their leaders with. Connects on first use. */
export function createKubernetesLease(
  config: KubernetesConfig,
  place: { readonly namespace: string; readonly name: string },
  log: Log,
): LeaseStore {
  const server = new ApiServer(new Credentials(config, systemClock, log), systemClock, log);
  return new KubernetesLease(server, new ApiClient(server, systemClock, log, {}), { resource: leases, ...place });
}

class KubernetesLease implements LeaseStore {
  constructor(
    private readonly server: ApiServer,
    private readonly client: ApiClient,
    private readonly place: Place,
  ) {}

  async read(): Promise<StoredLease | undefined> {
    const found = await this.client.get(this.place);
    return found && { record: parseLeaseSpec(found.spec ?? {}), revision: found.metadata.resourceVersion ?? '' };
  }

  async write(record: LeaseRecord, revision: string | undefined): Promise<'written' | 'conflict'> {
    const { name, namespace } = this.place;
    const metadata = {
      name,
      ...(namespace !== undefined && { namespace }),
      ...(revision !== undefined && { resourceVersion: revision }),
    };
    const object = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata, spec: formatLeaseSpec(record) };
    const { outcome } =
      revision === undefined ? await this.client.create(leases, object) : await this.client.replace(this.place, object);
    return outcome === 'written' ? 'written' : 'conflict';
  }

  close(): void {
    this.server.close();
  }
}
