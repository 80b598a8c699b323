/**
 * The static key by which the llm tier knows each device, kept from its first use: the server says which device it is that
 * speaks, and a server that was taken over must not say it for somebody else.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as HomePaths from "../domain/HomePaths.ts"
import { hex, utf8 } from "../domain/protocol/Cursor.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"
import type { Alarms } from "./Alarms.ts"
import * as Identity from "./Identity.ts"

/** Devices that a server can make this tier remember. */
const MAX_DEVICES = 4096
const SUFFIX = ".pub"

export interface DevicePins {
  /** Whether `key` (32 bytes) is that of `device` (32 hexadecimal digits); a device that is not known yet is from now on. */
  readonly admits: (device: string, key: Uint8Array) => Effect.Effect<boolean>
}

/** Pins in `folder`, one file each. */
export const make = Effect.fnUntraced(function* (folder: string, alarms: Alarms) {
  const store = yield* SecureFileStore
  let count = (yield* store.list(folder)).length
  /** What was read before, by device. */
  const known = new Map<string, string>()

  const pinned = Effect.fnUntraced(function* (device: string, key: Uint8Array) {
    const path = HomePaths.join(folder, device + SUFFIX)
    const read = Effect.map(Identity.readKey(path), Option.map(hex))
    const present = yield* read
    if (Option.isSome(present)) return present
    if (count >= MAX_DEVICES) {
      yield* alarms.say(
        "pins",
        Effect.logWarning,
        `ALARM: ${folder} holds ${MAX_DEVICES} devices: a new one was refused; remove those that are gone`
      )
      return Option.none<string>()
    }
    const made = yield* Effect.result(store.create(path, utf8(`${hex(key)}\n`)))
    if (made._tag === "Failure") return made.failure.reason === "Exists" ? yield* read : yield* made.failure
    count++
    yield* Effect.logInfo(`Device ${device.slice(0, 8)} spoke to this tier for the first time`)
    return Option.some(hex(key))
  })

  const admits: DevicePins["admits"] = Effect.fnUntraced(
    function* (device, key) {
      let expected = known.get(device)
      if (expected === undefined) {
        const found = yield* pinned(device, key)
        if (Option.isNone(found)) return false
        expected = found.value
        known.set(device, expected)
      }
      if (expected === hex(key)) return true
      yield* alarms.say(
        `pin ${device}`,
        Effect.logWarning,
        `ALARM: device ${device.slice(0, 8)} came with another key than before and was refused: it is not that device, or the server was taken over`
      )
      return false
    },
    (effect, device) =>
      Effect.catch(Effect.provideService(effect, SecureFileStore, store), (error) =>
        Effect.as(alarms.say(`pin of ${device}`, Effect.logError, error.message), false)
      )
  )
  return { admits } satisfies DevicePins
})
