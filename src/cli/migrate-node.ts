import { Ipam } from '../ipam/allocator.ts';
import type { Netlink } from '../kernel/types.ts';
import { applyPlan } from '../migrate/host-local/apply.ts';
import { type Folders, gather, inPodNamespace } from '../migrate/host-local/gather.ts';
import { type Plan, planOf } from '../migrate/host-local/plan.ts';
import { emptyRecord, readRecord, removeRecord, writeRecord } from '../migrate/host-local/record.ts';
import { rollBack } from '../migrate/host-local/rollback.ts';
import { TakenError } from '../migrate/host-local/take.ts';
import type { Cidr } from '../model/address.ts';
import type { Deps } from './apply.ts';
import { ExitError, exitCode } from './exit.ts';
import { type Format, formatTable, print } from './output.ts';

export interface MigrateDeps extends Deps {
  readonly host: Netlink;
  readonly node: string;
  readonly interfacePrefix: string;
  readonly folders: Folders;
  readonly podCidrs: readonly Cidr[];
  /** Path of the record. */
  readonly record: string;
  readonly signal: AbortSignal;
}

/** @throws ExitError with 1 when something stands in the way */
export async function planMigration(deps: MigrateDeps, format: Format): Promise<void> {
  const plan = planOf(await gather(deps));
  print(format, plan, () => planPage(plan));
  if (plan.obstacles.length > 0) throw new ExitError(exitCode.failure, '');
}

/** @throws ExitError with 1 when something stands in the way; nothing is changed then */
export async function applyMigration(deps: MigrateDeps, allowRestarts: boolean, vxlan: boolean): Promise<void> {
  const { store, clock, log, host, node, signal } = deps;
  const plan = planOf(await gather(deps));
  refuse(plan, allowRestarts);
  const before = (await readRecord(deps.record, node)) ?? emptyRecord(node);
  const scene = { store, clock, log };
  const done = (text: string) => void process.stdout.write(`${text}\n`);
  const note = (record: typeof before) => writeRecord(deps.record, record);
  try {
    await applyPlan(plan, before, { scene, host, inPod: inPodNamespace, note, done, signal, vxlan });
  } catch (thrown) {
    if (!(thrown instanceof TakenError)) throw thrown;
    throw new ExitError(exitCode.failure, `${thrown.message}; what was done is in ${deps.record}`, { cause: thrown });
  }
}

function refuse({ obstacles, restarts }: Plan, allowRestarts: boolean): void {
  const refused = [
    ...obstacles,
    ...(allowRestarts ? [] : restarts.map(({ name, reason }) => `${name} would lose the network: ${reason}`)),
  ];
  for (const one of refused) process.stderr.write(`${one}\n`);
  if (refused.length === 0) return;
  const advice = obstacles.length === 0 ? '; --allow-restarts goes on' : '';
  throw new ExitError(exitCode.failure, `${refused.length} things stand in the way, nothing is changed${advice}`);
}

/** @throws ExitError with 1 when there is no record */
export async function rollBackMigration(deps: MigrateDeps): Promise<void> {
  const { store, clock, log, host, node, signal } = deps;
  const record = await readRecord(deps.record, node);
  if (record === undefined) throw new ExitError(exitCode.failure, `there is no record ${deps.record} of an apply`);
  const ipam = new Ipam({ store, node, clock, log });
  await rollBack(record, {
    ...{ scene: { store, clock, log }, host, inPod: inPodNamespace, signal },
    release: (requests) => ipam.releaseAddresses(requests),
    done: (text) => void process.stdout.write(`${text}\n`),
  });
  await removeRecord(deps.record);
}

/** The plan for people. Pure. */
export function planPage(plan: Plan): string {
  const pools = plan.pools.map(({ name, cidr, exists, nodeSelector }) => [
    ...['pool', name, exists ? 'is there' : 'is made', `${cidr} for ${nodeSelector}`],
  ]);
  const blocks = plan.blocks.map(({ cidr, owned }) => ['block', cidr, owned ? 'is owned' : 'is claimed', '']);
  const pods = plan.pods.map(({ namespace, pod, addresses, pair, device }) => [
    ...['pod', `${namespace}/${pod}`, 'is taken over', `${addresses.join(', ')}: ${pair.hostDevice} becomes ${device}`],
  ]);
  const restarts = plan.restarts.map(({ name, addresses, reason }) => [
    ...['pod', name, 'must be restarted', `${addresses.join(', ')}: ${reason}`],
  ]);
  const held = plan.addresses.flatMap(({ address, handle, reason }) =>
    reason === undefined ? [] : [['address', address, 'is held', `${reason} (handle ${handle})`]],
  );
  const table = formatTable({
    columns: ['what', 'name', 'then', 'detail'],
    rows: [...pools, ...blocks, ...pods, ...restarts, ...held],
  });
  const lines = [
    ...plan.notes.map((text) => `note: ${text}`),
    ...plan.obstacles.map((text) => `in the way: ${text}`),
    `${plan.pods.length} pods are taken over, ${plan.restarts.length} must be restarted, ` +
      `${plan.addresses.length} addresses held; ${plan.obstacles.length} things stand in the way`,
  ];
  return `${table}${lines.join('\n')}\n`;
}
