/** RFC 3339, whole seconds, UTC: `2026-03-02T10:11:12Z`. */
export function rfc3339(time: Date): string {
  return `${time.toISOString().slice(0, 19)}Z`;
}

/** Go's time text, which stands in attributes: `2026-03-02 10:11:12.3456 +0000 UTC`, zeros at the fraction's end dropped. */
export function goTime(time: Date): string {
  const iso = time.toISOString();
  const fraction = iso.slice(19, -1).replace(/\.?0+$/, '');
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)}${fraction} +0000 UTC`;
}

/** Nanoseconds since 1970, where sequence numbers of new blocks start. */
export function unixNano(time: Date): bigint {
  return BigInt(time.getTime()) * 1_000_000n;
}
