import { InputError } from '../base/errors.ts';
import type { IpamConfig } from '../model/ipam.ts';
import type { Deps } from './apply.ts';
import { type Format, formatTable, print } from './output.ts';
import { upsert } from './upsert.ts';

export interface ConfigureOptions {
  readonly strictaffinity?: string;
  readonly maxBlocksPerHost?: string;
}

/** Changes the settings that are given, or none; then shows all. @throws InputError */
export async function configureIpam(options: ConfigureOptions, deps: Deps, format: Format): Promise<void> {
  const change = parseChange(options);
  const given = Object.keys(change).length > 0;
  if (given)
    await upsert<'IpamConfig'>(
      deps.store,
      { type: 'IpamConfig' },
      (current) => configured(current?.value, change),
      deps,
    );
  const shown = settingsOf((await deps.store.get({ type: 'IpamConfig' }))?.value);
  print(format, shown, () =>
    formatTable({
      columns: ['setting', 'value'],
      rows: Object.entries(shown).map(([name, value]) => [name, `${value}`]),
    }),
  );
}

export interface Change {
  readonly strictAffinity?: boolean;
  readonly maxBlocksPerHost?: number;
}

function parseChange({ strictaffinity, maxBlocksPerHost }: ConfigureOptions): Change {
  if (strictaffinity !== undefined && strictaffinity !== 'true' && strictaffinity !== 'false')
    throw new InputError('--strictaffinity', strictaffinity, 'true or false');
  if (maxBlocksPerHost !== undefined && !/^\d{1,6}$/.test(maxBlocksPerHost))
    throw new InputError('--max-blocks-per-host', maxBlocksPerHost, 'a whole number from 0 to 999999');
  return {
    ...(strictaffinity !== undefined && { strictAffinity: strictaffinity === 'true' }),
    ...(maxBlocksPerHost !== undefined && { maxBlocksPerHost: Number(maxBlocksPerHost) }),
  };
}

/** What holds now: an absent object means automatic blocks and borrowing, a present one exactly what it says. */
function settingsOf(config: IpamConfig | undefined) {
  return {
    strictAffinity: config?.strict_affinity ?? false,
    autoAllocateBlocks: config === undefined || (config.auto_allocate_blocks ?? false),
    maxBlocksPerHost: config?.maxBlocksPerHost ?? 0,
    ipCooldownSeconds: config?.ipCooldownSeconds ?? 0,
  };
}

/**
 * The settings to store; zero values are left out, as Calico does, and what others own stays. Undefined: nothing changes.
 * @throws InputError for what Calico refuses: a limit without strict affinity, neither automatic nor borrowed blocks
 */
export function configured(current: IpamConfig | undefined, change: Change): IpamConfig | undefined {
  const before = settingsOf(current);
  const after = { ...before, ...change };
  if (after.maxBlocksPerHost > 0 && !after.strictAffinity)
    throw new InputError('--max-blocks-per-host', after.maxBlocksPerHost, '0, unless affinity is strict');
  if (!after.strictAffinity && !after.autoAllocateBlocks)
    throw new InputError('--strictaffinity', false, 'true, for blocks are not allocated automatically');
  const same = before.strictAffinity === after.strictAffinity && before.maxBlocksPerHost === after.maxBlocksPerHost;
  if (same) return undefined;
  const { strict_affinity: _strict, auto_allocate_blocks: _auto, maxBlocksPerHost: _most, ...others } = current ?? {};
  return {
    ...others,
    ...(after.strictAffinity && { strict_affinity: true }),
    ...(after.autoAllocateBlocks && { auto_allocate_blocks: true }),
    ...(after.maxBlocksPerHost > 0 && { maxBlocksPerHost: after.maxBlocksPerHost }),
  };
}
