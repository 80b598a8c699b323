/**
 * A socket's address as the internet sees it, kept alive for as long as the scope: STUN on the very socket that peers use
 * (`StunClient`). What to do with it (write it into the `.sec`, tell connected clients) is the caller's.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Candidate } from "../domain/CredentialFile.ts"
import type { Address } from "../domain/protocol/Address.ts"
import type { Carrier } from "../domain/protocol/Carrier.ts"
import { type Reflexive, StunClient, type StunClientOptions } from "../domain/protocol/StunClient.ts"
import type { ServerName } from "../domain/ServerName.ts"
import { Crypto } from "../services/Crypto.ts"
import * as Resolver from "../services/Resolver.ts"

/** How often names are resolved anew, and how soon again while none resolves. */
const RESOLVE_AGAIN = Duration.minutes(10)
const RESOLVE_SOON = Duration.seconds(15)

export interface Options {
  /** STUN servers; none costs nothing and gives nothing. */
  readonly servers: ReadonlyArray<ServerName>
  /** Lets a carrier speak through the socket until the scope closes: `Listener.carry`. */
  readonly carry: (make: (via: number) => Carrier) => Effect.Effect<void, never, Scope.Scope>
  /** Milliseconds between two requests. */
  readonly refreshMs?: number
}

/**
 * The present reflexive addresses, one of a family at most; empty at first, and again when no server has answered for
 * 45 s. Follow them with `SubscriptionRef.changes`. Never fails: names that do not resolve are tried again.
 */
export const keep = Effect.fn("ReflexiveAddress.keep")(function* ({ carry, refreshMs, servers }: Options) {
  const { entropy } = yield* Crypto
  const present = yield* SubscriptionRef.make<ReadonlyArray<Reflexive>>([])
  if (servers.length === 0) return present
  const changes = yield* Queue.sliding<ReadonlyArray<Reflexive>>(1)
  const resolve = Effect.map(Resolver.addressesOf(servers), ({ addresses }) => addresses)
  const run = Effect.gen(function* () {
    let first = yield* resolve
    while (first.length === 0) {
      yield* Effect.sleep(RESOLVE_SOON)
      first = yield* resolve
    }
    const carrier = new WatchedStunClient({
      entropy,
      servers: first,
      ...(refreshMs === undefined ? {} : { refreshMs })
    })
    carrier.onChange = (reflexive) => Queue.offerUnsafe(changes, reflexive)
    yield* carry(() => carrier)
    while (true) {
      yield* Effect.sleep(RESOLVE_AGAIN)
      const found = yield* resolve
      if (found.length > 0) carrier.useServers(found)
    }
  })
  yield* Effect.forkScoped(run)
  yield* Effect.forkScoped(
    Effect.forever(Effect.flatMap(Queue.take(changes), (reflexive) => SubscriptionRef.set(present, reflexive)))
  )
  return present
})

/** What of them belongs into a `.sec` file: an address that depends on who is spoken to leads nobody here. */
export const candidates = (reflexive: ReadonlyArray<Reflexive>): ReadonlyArray<Candidate> =>
  reflexive
    .filter(({ dependent }) => dependent !== true)
    .map(({ address }) => ({ kind: "reflexive", address: address.host, port: address.port }))

/** A STUN client that tells when its addresses change, and that begins when its socket first asks it something. */
class WatchedStunClient implements Carrier {
  onChange: ((reflexive: ReadonlyArray<Reflexive>) => void) | undefined
  readonly #options: StunClientOptions
  #client: StunClient | undefined
  #next: ReadonlyArray<Address> | undefined

  constructor(options: StunClientOptions) {
    this.#options = options
  }

  get servers(): ReadonlyArray<Address> {
    return this.#client?.servers ?? this.#options.servers
  }

  /** From its next turn on. */
  useServers(servers: ReadonlyArray<Address>): void {
    this.#next = servers
  }

  handleDatagram(now: number, remote: Address, bytes: Uint8Array): "foreign" | undefined {
    const handled = this.#at(now).handleDatagram(now, remote, bytes)
    this.#tell()
    return handled
  }

  handleTimeout(now: number): void {
    const client = this.#at(now)
    if (this.#next !== undefined) client.setServers(now, this.#next)
    this.#next = undefined
    client.handleTimeout(now)
    this.#tell()
  }

  pollTransmit(now: number) {
    return this.#at(now).pollTransmit(now)
  }

  pollTimeout(): number {
    return this.#client?.pollTimeout() ?? 0
  }

  wrap(): undefined {
    return undefined
  }

  moved(now: number): void {
    this.#client?.refresh(now)
  }

  close(): void {
    this.#client?.close()
  }

  #at(now: number): StunClient {
    this.#client ??= new StunClient(now, this.#options)
    return this.#client
  }

  #tell(): void {
    const changed = this.#client?.pollChange()
    if (changed !== undefined) this.onChange?.(changed)
  }
}
