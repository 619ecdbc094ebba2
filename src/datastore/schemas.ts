import { z } from 'zod';
import { InputError } from '../base/errors.ts';
import { bits, type Cidr, cidrParts, parseCidr } from '../model/address.ts';
import type { Block, BlockAffinity, Handle, IpamConfig } from '../model/ipam.ts';
import { firstIssue } from '../model/kinds.ts';

/*
 * The stored forms of Calico's IPAM objects, old ones included, and what makes a block consistent. Unknown fields are
 * kept, so that they survive a read-modify-write.
 */

/** A 64-bit count; parseJson leaves small literals as numbers and turns large ones into bigints. */
const sequence = z.union([z.bigint(), z.number().int().transform(BigInt)]);
const ordinal = z.number().int().min(0);

const attribute = z.looseObject({
  handle_id: z.string().nullish(),
  secondary: z.record(z.string(), z.string()).nullish(),
  releasedAt: z.string().optional(),
});

const block = z.looseObject({
  cidr: z.string(),
  affinity: z.string().nullish(),
  /** Before v2 affinities: the bare host name. */
  hostAffinity: z.string().nullish(),
  affinity_claim_time: z.string().nullish(),
  allocations: z.array(ordinal.nullable()),
  unallocated: z.array(ordinal).nullish(),
  attributes: z.array(attribute).nullish(),
  sequenceNumber: sequence.default(0n),
  sequenceNumberForAllocation: z.record(z.string(), sequence).nullish(),
  deleted: z.boolean().default(false),
});

const affinity = z.looseObject({
  state: z.enum(['pending', 'confirmed', 'pendingDeletion', '']).default(''),
  deleted: z.boolean().default(false),
});

const handle = z.looseObject({
  block: z
    .record(z.string(), z.number().int())
    .nullish()
    .transform((counts) => counts ?? {}),
  deleted: z.boolean().default(false),
});

const config = z.looseObject({
  strict_affinity: z.boolean().optional(),
  auto_allocate_blocks: z.boolean().optional(),
  maxBlocksPerHost: z.number().int().min(0).optional(),
  ipCooldownSeconds: z.number().int().min(0).max(1200).optional(),
});

/** @throws InputError naming the field */
export function parseBlock(value: unknown, cidr: Cidr): Block {
  const where = `Block(${cidr})`;
  const { hostAffinity, ...found } = plainBlock(value) ?? checked(block, value, where);
  if (parseCidr(found.cidr, `${where}.cidr`) !== cidr) throw new InputError(`${where}.cidr`, found.cidr, cidr);
  const parsed = {
    ...found,
    cidr,
    affinity: found.affinity ?? (hostAffinity ? `host:${hostAffinity}` : null),
    unallocated: found.unallocated ?? [],
    attributes: found.attributes ?? null,
    sequenceNumberForAllocation: found.sequenceNumberForAllocation ?? {},
  };
  checkOrdinals(parsed as Block, where);
  return parsed as Block;
}

type StoredBlock = z.output<typeof block>;

/**
 * What the schema would give, for a block in today's form without a fault: every address that any node assigns or frees
 * is a block that all nodes read, and the schema takes ten times as long. Undefined: the schema shall judge.
 */
function plainBlock(value: unknown): StoredBlock | undefined {
  if (!isRecord(value)) return undefined;
  const { cidr, affinity = null, affinity_claim_time: claimed = null, hostAffinity = null, deleted = false } = value;
  const { allocations, unallocated, attributes, sequenceNumber, sequenceNumberForAllocation = {} } = value;
  const texts = typeof cidr === 'string' && [affinity, claimed, hostAffinity].every(isTextOrNull);
  if (!texts || typeof deleted !== 'boolean') return undefined;
  if (!Array.isArray(allocations) || !allocations.every((index) => index === null || isOrdinal(index)))
    return undefined;
  if (!Array.isArray(unallocated) || !unallocated.every(isOrdinal)) return undefined;
  if (!Array.isArray(attributes) || !attributes.every(isPlainAttribute)) return undefined;
  if (typeof sequenceNumber !== 'bigint' || !isRecord(sequenceNumberForAllocation)) return undefined;
  if (!Object.values(sequenceNumberForAllocation).every((one) => typeof one === 'bigint')) return undefined;
  return { ...value, deleted, sequenceNumberForAllocation } as unknown as StoredBlock;
}

function isPlainAttribute(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { handle_id: handle = null, secondary = null, releasedAt = '' } = value;
  const texts = isTextOrNull(handle) && typeof releasedAt === 'string';
  return texts && (secondary === null || (isRecord(secondary) && Object.values(secondary).every(isText)));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isOrdinal(value: unknown): boolean {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isText(value: unknown): boolean {
  return typeof value === 'string';
}

function isTextOrNull(value: unknown): boolean {
  return value === null || typeof value === 'string';
}

/** @throws InputError naming the field. An empty value has been seen in old data and reads as `{}`. */
export function parseAffinity(value: unknown, where: string): BlockAffinity {
  return checked(affinity, value, where);
}

/** @throws InputError naming the field */
export function parseHandle(value: unknown, where: string): Handle {
  return checked(handle, value, where);
}

/** @throws InputError naming the field */
export function parseIpamConfig(value: unknown): IpamConfig {
  return checked(config, value, 'IpamConfig') as IpamConfig;
}

function checked<S extends z.ZodType>(schema: S, value: unknown, where: string): z.output<S> {
  const result = schema.safeParse(value);
  if (!result.success) throw firstIssue(result.error, value, where);
  return result.data;
}

/** No ordinal is free twice, or free and taken, and what is taken points at an attribute. */
function checkOrdinals(found: Block, where: string): void {
  const { length, family } = cidrParts(found.cidr);
  const size = 2 ** (bits(family) - length);
  const attributes = found.attributes?.length ?? 0;
  if (found.allocations.length !== size)
    throw new InputError(`${where}.allocations.length`, found.allocations.length, `${size} entries`);
  for (const [at, index] of found.allocations.entries())
    if (index !== null && index >= attributes)
      throw new InputError(`${where}.allocations[${at}]`, index, `an index below ${attributes}, the attributes' count`);
  const seen = new Set<number>();
  for (const free of found.unallocated) {
    if (free >= size || found.allocations[free] !== null || seen.has(free))
      throw new InputError(`${where}.unallocated`, free, 'each free ordinal once');
    seen.add(free);
  }
}
