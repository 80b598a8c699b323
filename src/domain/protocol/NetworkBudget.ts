/** How many handshakes a second any one network may cost: an IPv4 /24 or an IPv6 /64, what one customer usually has. */
import { parseHost } from "./AddressCodec.ts"
import { MAX_KNOCKING_NETWORKS, NETWORK_BURST, NETWORK_PER_SECOND } from "./Constants.ts"
import { TokenBucket } from "./TokenBucket.ts"

export class NetworkBudget {
  /** The network that was heard longest ago comes first, and goes first. */
  readonly #buckets = new Map<string, TokenBucket>()

  /** Takes one handshake from the budget of the network of `host`, or answers false. */
  take(now: number, host: string): boolean {
    const key = networkOf(host)
    const bucket = this.#buckets.get(key) ?? new TokenBucket(now, NETWORK_PER_SECOND, NETWORK_BURST)
    this.#buckets.delete(key)
    this.#buckets.set(key, bucket)
    if (this.#buckets.size > MAX_KNOCKING_NETWORKS) {
      const oldest = this.#buckets.keys().next()
      if (oldest.done !== true) this.#buckets.delete(oldest.value)
    }
    return bucket.take(now)
  }
}

/** The first 24 bits of an IPv4 address or 64 of an IPv6 one, as a name; what is neither names itself. */
const networkOf = (host: string): string => {
  const bytes = parseHost(host)
  if (bytes === undefined) return host
  return `${bytes.length}:${Array.from(bytes.subarray(0, bytes.length === 4 ? 3 : 8)).join(".")}`
}
