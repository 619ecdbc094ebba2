import { Writer } from '../base/bytes.ts';
import { type Attributes, writeAttributes } from './wire/attributes.ts';

/**
 * Keeps one object for equal attributes, so that identity stands for equality and a million routes share what they
 * have in common. What nobody refers to any longer is collected.
 */
export class AttributeInterner {
  readonly #known = new Map<string, WeakRef<Attributes>>();
  readonly #collected = new FinalizationRegistry<string>((key) => {
    if (this.#known.get(key)?.deref() === undefined) this.#known.delete(key);
  });

  /** Distinct sets of attributes now alive (collected ones may still count for a moment). */
  get count(): number {
    return this.#known.size;
  }

  intern(attributes: Attributes): Attributes {
    const key = keyOf(attributes);
    const known = this.#known.get(key)?.deref();
    if (known) return known;
    this.#known.set(key, new WeakRef(attributes));
    this.#collected.register(attributes, key);
    return attributes;
  }
}

const scratch = new Writer(512);

/** The wire form, which leaves nothing out for a four-octet peer in our own AS; IPv6 next hops stand apart. */
function keyOf(attributes: Attributes): string {
  scratch.clear();
  writeAttributes(scratch, attributes, { fourOctetAs: true, external: false });
  return `${attributes.nextHop ?? ''} ${attributes.linkLocal ?? ''} ${scratch.latin1()}`;
}
