/** Names to numeric addresses. Sockets take numeric ones only: a datagram socket queues without bound while a name resolves. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Address } from "../domain/protocol/Address.ts"
import { canonicalHost } from "../domain/protocol/AddressCodec.ts"
import type { ServerName } from "../domain/ServerName.ts"

/** The name does not resolve, now. */
export class ResolverError extends Data.TaggedError("ResolverError")<{
  /** One line for people: which name, why. */
  readonly message: string
  readonly cause?: unknown
}> {}

/** Addresses of one name at most. */
const MAX_ADDRESSES = 8
/** Names looked up side by side. */
const CONCURRENCY = 4

export class Resolver extends Context.Service<
  Resolver,
  {
    /** All numeric addresses of a DNS name, in the system's order, at least one. Gives up after 5 s. */
    readonly lookup: (name: string) => Effect.Effect<ReadonlyArray<string>, ResolverError>
  }
>()("clawchat/services/Resolver") {}

/** A server's addresses, in canonical form; a numeric one needs no look-up. */
export const addresses = Effect.fn("Resolver.addresses")(function* ({ host, port }: ServerName) {
  const numeric = canonicalHost(host)
  if (numeric !== undefined) return [{ host: numeric, port }]
  const { lookup } = yield* Resolver
  const found: Array<Address> = []
  for (const text of (yield* lookup(host)).slice(0, MAX_ADDRESSES)) {
    const canonical = canonicalHost(text)
    if (canonical !== undefined) found.push({ host: canonical, port })
  }
  return found
})

/** The addresses of those servers that resolve, and what became of the others. */
export const addressesOf = Effect.fnUntraced(function* (servers: ReadonlyArray<ServerName>) {
  const [found, failures] = yield* Effect.partition(servers, addresses, { concurrency: CONCURRENCY })
  return { addresses: found.flat(), failures }
})

/** Knows only the names it is given: for simulations and tests. */
export const layerMemory = (names: Readonly<Record<string, ReadonlyArray<string>>>): Layer.Layer<Resolver> =>
  Layer.succeed(Resolver, {
    lookup: (name) => {
      const found = names[name]
      return found === undefined || found.length === 0
        ? Effect.fail(new ResolverError({ message: `${name} has no address` }))
        : Effect.succeed(found)
    }
  })
