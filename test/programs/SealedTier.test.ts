import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { DH_CREDENTIAL_BURST, DH_CREDENTIAL_PER_SECOND } from "../../src/domain/protocol/Constants.ts"
import { concat, text, utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as StreamHeader from "../../src/domain/StreamHeader.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as Alarms from "../../src/programs/Alarms.ts"
import * as SealedClient from "../../src/programs/SealedClient.ts"
import * as SealedTier from "../../src/programs/SealedTier.ts"
import { take } from "../../src/programs/StreamReader.ts"
import { layerMemory } from "../../src/services/SecureFileStore.ts"
import { TransportError, type TransportStream } from "../../src/services/Transport.ts"
import { pair } from "./SealedSupport.ts"

const tierIdentity = CryptoNode.primitives.keyPair(new Uint8Array(32).fill(2))
const DEVICE = new Uint8Array(16).fill(7)
const environment = Layer.merge(layerMemory, CryptoNode.layer)

const makeTier = Effect.gen(function* () {
  const alarms = yield* Alarms.make()
  return yield* SealedTier.make({ identity: tierIdentity, folder: "/devices", alarms })
})

const makeClient = (fill: number, over: Partial<SealedClient.Options> = {}) =>
  SealedClient.make({
    identity: CryptoNode.primitives.keyPair(new Uint8Array(32).fill(fill)),
    device: DEVICE,
    pinned: Effect.succeed(tierIdentity.publicKey),
    offered: Effect.succeed(undefined),
    pin: () => Effect.void,
    ...over
  })

/** A stream from a client, and what the tier makes of it; `wire` is what the client wrote. */
const stream = Effect.fnUntraced(function* (tier: SealedTier.SealedTier, device = DEVICE) {
  const made = pair()
  const written: Array<Uint8Array> = []
  made.there.between = (bytes) => {
    written.push(bytes)
    return bytes
  }
  const accepting = yield* Effect.forkChild(
    Effect.gen(function* () {
      const { head, rest } = yield* take(made.theirs, 2)
      return yield* tier.accept(rest, device, head)
    })
  )
  return { ...made, accepted: Fiber.join(accepting), wire: () => concat(...written) }
})

const accepted = <E>(from: { readonly accepted: Effect.Effect<Option.Option<TransportStream>, E> }) =>
  Effect.map(from.accepted, Option.getOrThrow)
const withTier = <A, E>(use: Effect.Effect<A, E, Effect.Services<typeof makeTier>>) =>
  Effect.provide(Effect.scoped(use), environment)

describe("SealedTier and SealedClient", () => {
  it.effect("open one stream with a handshake and further ones without", () =>
    withTier(
      Effect.gen(function* () {
        const tier = yield* makeTier
        const client = yield* makeClient(1)
        for (const [n, length] of [129, 53, 53].entries()) {
          const there = yield* stream(tier)
          const sealed = yield* client.open(there.ours)
          yield* sealed.write(utf8(`question ${n}`))
          const theirs = yield* accepted(there)
          assert.strictEqual(text(concat(...(yield* theirs.read))), `question ${n}`)
          // Header and opening, then one record.
          assert.strictEqual(there.wire().length, (length === 129 ? 2 + 97 : 2 + 21) + 34)
          yield* theirs.write(utf8(`answer ${n}`))
          assert.strictEqual(text(concat(...(yield* sealed.read))), `answer ${n}`)
        }
      })
    )
  )

  it.effect("give nothing to whoever sends again what was recorded, whole streams included", () =>
    withTier(
      Effect.gen(function* () {
        const tier = yield* makeTier
        const client = yield* makeClient(1)
        const recorded: Array<Uint8Array> = []
        for (let n = 0; n < 2; n++) {
          const there = yield* stream(tier)
          const sealed = yield* client.open(there.ours)
          yield* sealed.write(utf8("do this"))
          yield* sealed.finish
          const theirs = yield* accepted(there)
          yield* theirs.read
          recorded.push(there.wire())
        }
        const [handshake, resumed] = recorded
        const again = yield* stream(tier)
        yield* again.ours.write(handshake ?? new Uint8Array(0))
        const error = yield* Effect.flip((yield* accepted(again)).read)
        assert.isTrue(!Cause.isDone(error) && error.reason === "Seal")
        const third = yield* stream(tier)
        yield* third.ours.write(resumed ?? new Uint8Array(0))
        assert.isTrue(Option.isNone(yield* third.accepted))
        assert.strictEqual(third.back.reset, StreamHeader.Code.Renew)
        // Nor on behalf of another device.
        const other = yield* stream(tier, new Uint8Array(16).fill(8))
        yield* other.ours.write(handshake ?? new Uint8Array(0))
        assert.isTrue(Option.isNone(yield* other.accepted))
        assert.strictEqual(other.back.reset, StreamHeader.Code.NotSealed)
      })
    )
  )

  it.effect("tell a client that its session is gone, and the next stream makes a new one", () =>
    withTier(
      Effect.gen(function* () {
        const client = yield* makeClient(1)
        const first = yield* stream(yield* makeTier)
        const sealed = yield* client.open(first.ours)
        yield* sealed.write(utf8("x"))
        yield* (yield* accepted(first)).read

        const restarted = yield* makeTier
        const second = yield* stream(restarted)
        const forgotten = yield* client.open(second.ours)
        assert.isTrue(Option.isNone(yield* second.accepted))
        const error = yield* Effect.flip(forgotten.read)
        assert.isTrue(error instanceof TransportError && error.code === StreamHeader.Code.Renew)

        const third = yield* stream(restarted)
        const renewed = yield* client.open(third.ours)
        yield* renewed.write(utf8("y"))
        assert.strictEqual(text(concat(...(yield* (yield* accepted(third)).read))), "y")
      })
    )
  )

  it.effect("take the server's word for the key once, and only for one that proves itself", () =>
    withTier(
      Effect.gen(function* () {
        const tier = yield* makeTier
        const pinned: Array<Uint8Array> = []
        const pin = (key: Uint8Array) => Effect.sync(() => void pinned.push(key))
        const unpinned = { pinned: Effect.succeed(undefined), pin }
        const none = yield* makeClient(1, unpinned)
        const away = yield* Effect.flip(none.open((yield* stream(tier)).ours))
        assert.isTrue(away._tag === "TransportError" && away.code === StreamHeader.Code.TierAway)

        const junk = yield* makeClient(1, { ...unpinned, offered: Effect.succeed(new Uint8Array(5)) })
        assert.strictEqual((yield* Effect.flip(junk.open((yield* stream(tier)).ours)))._tag, "TransportError")

        const wrong = yield* makeClient(1, { ...unpinned, offered: Effect.succeed(new Uint8Array(32).fill(9)) })
        const refused = yield* Effect.flip(wrong.open((yield* stream(tier)).ours))
        assert.strictEqual(refused._tag, "SealError")
        assert.deepStrictEqual(pinned, [])

        const right = yield* makeClient(1, { ...unpinned, offered: Effect.succeed(tierIdentity.publicKey) })
        yield* right.open((yield* stream(tier)).ours)
        yield* right.open((yield* stream(tier)).ours)
        assert.deepStrictEqual(pinned, [tierIdentity.publicKey])
      })
    )
  )

  it.effect("refuse another key for a known device, and say which it is", () =>
    withTier(
      Effect.gen(function* () {
        const tier = yield* makeTier
        yield* (yield* makeClient(1)).open((yield* stream(tier)).ours)
        const error = yield* Effect.flip((yield* makeClient(2)).open((yield* stream(tier)).ours))
        assert.isTrue(error._tag === "SealError" && error.reason === "Stranger")
      })
    )
  )

  it.effect("grant a device so many handshakes a second", () =>
    withTier(
      Effect.gen(function* () {
        const tier = yield* makeTier
        const attempt = Effect.gen(function* () {
          const there = yield* stream(tier)
          const client = yield* makeClient(1)
          const outcome = yield* Effect.result(client.open(there.ours))
          return outcome._tag === "Success" ? "open" : there.back.reset
        })
        const take = (count: number) => Effect.forEach(Array.from({ length: count }), () => attempt)
        const burst = yield* take(DH_CREDENTIAL_BURST + 2)
        assert.strictEqual(burst.filter((each) => each === "open").length, DH_CREDENTIAL_BURST)
        assert.strictEqual(burst.at(-1), StreamHeader.Code.TooMany)
        yield* TestClock.adjust(1000)
        const later = yield* take(DH_CREDENTIAL_PER_SECOND + 1)
        assert.strictEqual(later.filter((each) => each === "open").length, DH_CREDENTIAL_PER_SECOND)
      })
    )
  )
})
