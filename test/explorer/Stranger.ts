/** A host that nobody knows: it sends junk and what it has recorded, and counts what comes back. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Address } from "../../src/domain/protocol/Address.ts"
import type { SeededRandom } from "../../src/layers/SeededRandom.ts"
import type * as SimulatedNetwork from "../../src/layers/SimulatedNetwork.ts"
import { UdpSocket } from "../../src/services/UdpSocket.ts"

/** Datagrams that are remembered of each tier. */
const MEMORY = 64
/** Milliseconds after which its receiver has surely dealt with a datagram, and heard later ones. */
const SETTLED_MS = 2000

interface Recorded {
  readonly at: number
  readonly bytes: Uint8Array
}

export class Stranger {
  /** Bytes that came back. */
  answered = 0
  sent = 0
  readonly #recorded = new Map<string, Array<Recorded>>()
  readonly #ports = new Map<string, Set<number>>()

  /** A tier took this in. */
  record(now: number, tier: string, port: number, bytes: Uint8Array): void {
    const known = this.#recorded.get(tier) ?? []
    this.#recorded.set(tier, known)
    known.push({ at: now, bytes })
    if (known.length > MEMORY) known.shift()
    this.#ports.set(tier, (this.#ports.get(tier) ?? new Set()).add(port))
  }

  /** What a tier took in just before its end it may have no record of. */
  onKilled(now: number, tier: string): void {
    const known = this.#recorded.get(tier) ?? []
    this.#recorded.set(
      tier,
      known.filter(({ at }) => at < now - SETTLED_MS)
    )
  }

  /** Sends so many datagrams to a tier at `host`, on all the ports that it ever had. */
  readonly disturb = Effect.fnUntraced(function* (
    this: Stranger,
    send: (to: Address, bytes: Uint8Array) => Effect.Effect<void>,
    random: SeededRandom,
    target: { readonly now: number; readonly tier: string; readonly host: string; readonly datagrams: number }
  ) {
    const { datagrams, host, now, tier } = target
    const ports = [...(this.#ports.get(tier) ?? [])].slice(-4)
    const old = (this.#recorded.get(tier) ?? []).filter(({ at }) => at < now - SETTLED_MS)
    for (let n = 0; n < datagrams && ports.length > 0; n++) {
      const bytes = makeUp(random, old)
      this.sent++
      yield* send({ host, port: ports[random.below(ports.length)] ?? 1 }, bytes)
    }
  })
}

/** Junk, something recorded, or something recorded with a bit flipped. */
const makeUp = (random: SeededRandom, old: ReadonlyArray<Recorded>): Uint8Array => {
  const recorded = old[random.below(Math.max(1, old.length))]
  if (recorded === undefined || random.chance(0.3)) {
    const length = random.chance(0.3) ? 1200 : random.below(90) * (random.chance(0.8) ? 16 : 1)
    return random.bytes(length)
  }
  const bytes = recorded.bytes.slice()
  if (random.chance(0.5) && bytes.length > 0) {
    const at = random.below(bytes.length)
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8))
  }
  return bytes
}

/** A socket of a host of its own; whatever it receives is counted. */
export const open = (
  stranger: Stranger,
  host: SimulatedNetwork.Host
): Effect.Effect<(to: Address, bytes: Uint8Array) => Effect.Effect<void>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const sockets = yield* UdpSocket
    const socket = yield* sockets.bind({ host: "0.0.0.0", port: 0 })
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.map(socket.receive, (batch) => {
          for (const { bytes } of batch) stranger.answered += bytes.length
        })
      )
    )
    return (remote: Address, bytes: Uint8Array) => Effect.orDie(socket.send([{ bytes, remote }]))
  }).pipe(Effect.provide(host.layer), Effect.orDie)
