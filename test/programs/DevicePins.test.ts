import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { hex, utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as Alarms from "../../src/programs/Alarms.ts"
import * as DevicePins from "../../src/programs/DevicePins.ts"
import { layerMemory, SecureFileStore } from "../../src/services/SecureFileStore.ts"

const FOLDER = "/llm/identity/devices"
const device = (n: number) => n.toString(16).padStart(32, "0")
const key = (n: number) => new Uint8Array(32).fill(n)

const inWorld = <A, E>(use: (log: ReadonlyArray<string>) => Effect.Effect<A, E, SecureFileStore | Scope.Scope>) => {
  const log: Array<string> = []
  const logger = Logger.layer([
    Logger.make(({ message }) => {
      log.push(Array.isArray(message) ? message.join(" ") : String(message))
    })
  ])
  return Effect.provide(Effect.scoped(use(log)), Layer.mergeAll(layerMemory, CryptoNode.layer, logger))
}

const make = Effect.flatMap(Alarms.make(), (alarms) => DevicePins.make(FOLDER, alarms))

describe("DevicePins", () => {
  it.effect("holds to the first key of each device, over restarts, and says so", () =>
    inWorld((log) =>
      Effect.gen(function* () {
        const pins = yield* make
        assert.isTrue(yield* pins.admits(device(1), key(1)))
        assert.isTrue(yield* pins.admits(device(1), key(1)))
        assert.isTrue(yield* pins.admits(device(2), key(2)))
        assert.isFalse(yield* pins.admits(device(1), key(2)))
        const again = yield* make
        assert.isFalse(yield* again.admits(device(2), key(1)))
        assert.isTrue(yield* again.admits(device(2), key(2)))
        assert.strictEqual(log.filter((line) => /for the first time/.test(line)).length, 2)
        assert.strictEqual(log.filter((line) => /^ALARM: device 00000000 came with another key/.test(line)).length, 2)
        for (const line of log) assert.notInclude(line, hex(key(1)))
      })
    )
  )

  it.effect("gives one of two keys that come at the same moment", () =>
    inWorld(() =>
      Effect.gen(function* () {
        const pins = yield* make
        const both = yield* Effect.all([pins.admits(device(1), key(1)), pins.admits(device(1), key(2))], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual([...both].sort(), [false, true])
      })
    )
  )

  it.effect("trusts nobody where its file cannot be understood", () =>
    inWorld((log) =>
      Effect.gen(function* () {
        const store = yield* SecureFileStore
        yield* store.write(`${FOLDER}/${device(1)}.pub`, utf8("what is this"))
        const pins = yield* make
        assert.isFalse(yield* pins.admits(device(1), key(1)))
        assert.isTrue(log.some((line) => line.includes("does not hold a public key")))
        assert.deepStrictEqual(Option.getOrThrow(yield* store.read(`${FOLDER}/${device(1)}.pub`)), utf8("what is this"))
      })
    )
  )

  it.effect("takes on no more devices than it has room for", () =>
    inWorld((log) =>
      Effect.gen(function* () {
        const store = yield* SecureFileStore
        for (let n = 0; n < 4095; n++) yield* store.write(`${FOLDER}/${device(n)}.pub`, utf8(`${hex(key(3))}\n`))
        const pins = yield* make
        assert.isTrue(yield* pins.admits(device(10_000), key(1)))
        assert.isFalse(yield* pins.admits(device(10_001), key(1)))
        assert.isTrue(yield* pins.admits(device(17), key(3)))
        assert.strictEqual(log.filter((line) => /^ALARM: .* holds 4096 devices/.test(line)).length, 1)
      })
    )
  )
})
