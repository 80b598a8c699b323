/** Why a call brought no answer of its own, in one sentence for people. */

/** The line ended before the answer came. */
export const LOST = "the connection was lost before the answer came: try again"
/** What came was no answer to what was asked. */
export const NOT_UNDERSTOOD = "the answer could not be understood: the two sides are of different versions"

const property = (value: unknown, name: "_tag" | "reason"): unknown =>
  typeof value === "object" && value !== null && name in value ? Reflect.get(value, name) : undefined

/**
 * The sentence for an error or defect of the stock RPC client, whose own words are of sockets and schemas; `undefined`
 * for one that came from elsewhere. It reports failed writes, and answers that are none, as defects.
 */
export const sentence = (error: unknown): typeof LOST | typeof NOT_UNDERSTOOD | undefined => {
  const tag = property(error, "_tag")
  const inner = tag === "RpcClientError" || tag === "SocketError" ? property(property(error, "reason"), "_tag") : tag
  if (inner === "RpcClientDefect" || tag === "SchemaError") return NOT_UNDERSTOOD
  if (tag === "RpcClientError" || inner === "TransportError") return LOST
  return typeof inner === "string" && inner.startsWith("Socket") ? LOST : undefined
}
