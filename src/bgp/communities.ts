/** Kept long over a peer's restart: a route of last resort; and routes that do not want that. RFC 9494 §4.6. */
export const llgrStale = 0xffff0006;
export const noLlgr = 0xffff0007;
