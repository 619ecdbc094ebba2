/** The first key after all that begin with `prefix` (etcd's `range_end`); `\0`, which means "to the end", for none. */
export function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  for (let at = end.length - 1; at >= 0; at--) {
    const octet = end[at] ?? 0xff;
    if (octet === 0xff) continue;
    end[at] = octet + 1;
    return end.subarray(0, at + 1);
  }
  return Buffer.from([0]);
}
