import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as ClientIdentity from "../../src/programs/ClientIdentity.ts"
import * as ClientLink from "../../src/programs/ClientLink.ts"
import * as CredentialFiles from "../../src/programs/CredentialFiles.ts"
import { Transport, TransportError } from "../../src/services/Transport.ts"
import * as Support from "./CredentialSupport.ts"

describe("ClientLink", () => {
  it.effect("waits twice as long after each attempt, up to the longest wait", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Support.NOW)
      const at: Array<number> = []
      const transport = Transport.of({
        listen: () => Effect.die(new Error("nobody listens here")),
        connect: () =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            at.push(now)
            return new TransportError({ reason: "NoAnswer", message: "nobody answered" })
          })
      })
      const identity = yield* ClientIdentity.make(HomePaths.client("/home"))
      const pairing = ClientIdentity.pairingOf(yield* CredentialFiles.make(Support.options))
      const patience = ClientLink.patience({ idleTimeoutMs: 90_000, keepaliveIntervalMs: 20_000 })
      assert.deepStrictEqual(patience, { keepAliveMs: 20_000, deadAfterMs: 15_000, idleTimeoutMs: 90_000 })
      const options = { identity, pairing, deviceName: "x", patience, timeoutMs: 1000 }
      const waits = Effect.fnUntraced(function* (pauseMs: number | undefined) {
        at.length = 0
        yield* Effect.scoped(
          Effect.andThen(
            ClientLink.make(pauseMs === undefined ? options : { ...options, pauseMs }),
            TestClock.adjust(20_000)
          )
        )
        return at.slice(1, 8).map((time, n) => time - (at[n] ?? 0))
      })
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* waits(5000), [500, 1000, 2000, 4000, 5000, 5000])
        assert.deepStrictEqual(yield* waits(1000), [500, 1000, 1000, 1000, 1000, 1000, 1000])
        assert.deepStrictEqual(yield* waits(undefined), [500, 500, 500, 500, 500, 500, 500])
      }).pipe(Effect.provideService(Transport, transport))
    }).pipe(Effect.provide([new Support.Disk().layer, CryptoNode.layer]))
  )
})
