import { InputError } from '../../base/errors.ts';
import { type Cidr, parseCidr } from '../../model/address.ts';
import { type Block, type BlockAffinity, type Handle, type IpamConfig, ownerParts } from '../../model/ipam.ts';
import { parseAffinity, parseBlock, parseHandle, parseIpamConfig } from '../schemas.ts';
import type { KeyOf } from '../store.ts';
import { affinityLabels, affinityName, cidrName, handleName, parseCidrName } from './names.ts';
import { type ApiObject, type ApiResource, apiVersionOf, calico } from './resources.ts';
import type { Source } from './source.ts';

/* IPAM's objects as crd.projectcalico.org/v1 resources, whose fields are named a little differently than in etcd. */

type Spec = Readonly<Record<string, unknown>>;

const blocks = calico('IPAMBlock', 'ipamblocks');
const affinities = calico('BlockAffinity', 'blockaffinities');
const handles = calico('IPAMHandle', 'ipamhandles');
export const ipamConfigs = calico('IPAMConfig', 'ipamconfigs');

/** Old writers put Calico's empty metadata beside every object; so does this one, for those who look for it. */
const emptyMetadata = { 'projectcalico.org/metadata': '{}' };

function object(resource: ApiResource, name: string, spec: Spec, metadata: object = {}): ApiObject {
  const given = { name, annotations: emptyMetadata, ...metadata };
  return { apiVersion: apiVersionOf(resource), kind: resource.kind, metadata: given, spec };
}

export const blockSource: Source = {
  type: 'Block',
  resource: blocks,
  place: (key) => ({ resource: blocks, name: cidrName((key as KeyOf<'Block'>).cidr) }),
  keyOf: ({ metadata }) => {
    const cidr = parseCidrName(metadata.name);
    return cidr && { type: 'Block', cidr };
  },
  read: ({ spec = {} }, key) => {
    const { affinityClaimTime, strictAffinity, ...fields } = spec;
    if (fields['deleted'] === true) return undefined;
    const strict = strictAffinity === true ? { strictAffinity } : {};
    const { cidr } = key as KeyOf<'Block'>;
    return parseBlock(
      { ...fields, ...(affinityClaimTime != null && { affinity_claim_time: affinityClaimTime }), ...strict },
      cidr,
    );
  },
  writer: {
    by: 'replace',
    write: (key, value) => {
      const block = parseBlock(value, (key as KeyOf<'Block'>).cidr);
      return object(blocks, cidrName(block.cidr), blockSpec(block));
    },
    mark: (found) => ({ ...found, spec: { ...found.spec, deleted: true } }),
  },
};

function blockSpec({ affinity, affinity_claim_time, attributes, ...block }: Block): Spec {
  return {
    strictAffinity: false,
    ...block,
    ...(affinity != null && { affinity }),
    ...(affinity_claim_time != null && { affinityClaimTime: affinity_claim_time }),
    attributes: attributes ?? [],
  };
}

export const affinitySource: Source = {
  type: 'BlockAffinity',
  resource: affinities,
  place: (key) => {
    const { host, cidr } = key as KeyOf<'BlockAffinity'>;
    return { resource: affinities, name: affinityName(host, cidr) };
  },
  keyOf: ({ spec = {} }) => {
    const { node: name, type = 'host' } = spec;
    const cidr = cidrOf(spec['cidr']);
    if (typeof name !== 'string' || (type !== 'host' && type !== 'virtual') || cidr === undefined) return undefined;
    return { type: 'BlockAffinity', host: type === 'virtual' ? `virtual:${name}` : name, cidr };
  },
  read: ({ spec = {} }, key) => {
    const { node: _n, type: _t, cidr: _c, deleted, ...fields } = spec;
    if (deleted === 'true' || deleted === true) return undefined;
    const { host, cidr } = key as KeyOf<'BlockAffinity'>;
    return parseAffinity({ ...fields, deleted: false }, `BlockAffinity(${host} ${cidr})`);
  },
  writer: {
    by: 'replace',
    write: (key, value) => {
      const { host, cidr } = key as KeyOf<'BlockAffinity'>;
      const affinity = parseAffinity(value, `BlockAffinity(${host} ${cidr})`) as BlockAffinity;
      const labels = affinityLabels(host, cidr);
      const { type, name: node } = ownerParts(host);
      const spec = { ...affinity, node, type, cidr, deleted: String(affinity.deleted) };
      const annotations = { 'projectcalico.org/metadata': JSON.stringify({ labels }) };
      return object(affinities, affinityName(host, cidr), spec, { labels, annotations });
    },
    mark: (found) => ({ ...found, spec: { ...found.spec, deleted: 'true' } }),
  },
};

/** The labels that an affinity of an old version lacks; undefined when it has them. */
export function missingLabels({ metadata, spec = {} }: ApiObject): Readonly<Record<string, string>> | undefined {
  const key = affinitySource.keyOf({ metadata, spec });
  if (key?.type !== 'BlockAffinity') return undefined;
  const wanted = affinityLabels(key.host, key.cidr);
  return Object.entries(wanted).every(([name, value]) => metadata.labels?.[name] === value) ? undefined : wanted;
}

export const handleSource: Source = {
  type: 'Handle',
  resource: handles,
  place: (key) => ({ resource: handles, name: handleName((key as KeyOf<'Handle'>).id) }),
  keyOf: ({ metadata, spec = {} }) => {
    const id = spec['handleID'];
    return { type: 'Handle', id: typeof id === 'string' && handleName(id) === metadata.name ? id : metadata.name };
  },
  read: ({ spec = {} }, key) => {
    const { handleID: _, ...fields } = spec;
    return fields['deleted'] === true ? undefined : parseHandle(fields, `Handle(${(key as KeyOf<'Handle'>).id})`);
  },
  writer: {
    by: 'replace',
    write: (key, value) => {
      const { id } = key as KeyOf<'Handle'>;
      const handle: Handle = parseHandle(value, `Handle(${id})`);
      return object(handles, handleName(id), { handleID: id, ...handle });
    },
    mark: (found) => ({ ...found, spec: { ...found.spec, deleted: true } }),
  },
};

/** etcd's names for the settings → the resource's. */
const settings = { strict_affinity: 'strictAffinity', auto_allocate_blocks: 'autoAllocateBlocks' } as const;

export const configSource: Source = {
  type: 'IpamConfig',
  resource: ipamConfigs,
  place: () => ({ resource: ipamConfigs, name: 'default' }),
  keyOf: ({ metadata }) => (metadata.name === 'default' ? { type: 'IpamConfig' } : undefined),
  read: ({ spec = {} }) => {
    const { strictAffinity, autoAllocateBlocks, ...fields } = spec;
    return parseIpamConfig({
      ...fields,
      ...(strictAffinity !== undefined && { strict_affinity: strictAffinity }),
      ...(autoAllocateBlocks !== undefined && { auto_allocate_blocks: autoAllocateBlocks }),
    });
  },
  writer: {
    by: 'replace',
    write: (_key, value) => {
      const config: IpamConfig = parseIpamConfig(value);
      const names: Readonly<Record<string, string>> = settings;
      const spec = Object.fromEntries(Object.entries(config).map(([name, field]) => [names[name] ?? name, field]));
      return object(ipamConfigs, 'default', { strictAffinity: false, autoAllocateBlocks: false, ...spec });
    },
  },
};

/** A prefix in canonical form; undefined for anything else. */
function cidrOf(text: unknown): Cidr | undefined {
  if (typeof text !== 'string') return undefined;
  try {
    return parseCidr(text);
  } catch (thrown) {
    if (thrown instanceof InputError) return undefined;
    throw thrown;
  }
}
