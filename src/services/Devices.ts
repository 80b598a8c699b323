/**
 * The server's devices, one file each. A record that exists is both the enrolment and the burn of the file it came
 * from: making it (exclusively, durably) is the one step that commits the two, and whatever a crash leaves behind is
 * read back as before or after that step.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import type * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Device from "../domain/Device.ts"
import * as HomePaths from "../domain/HomePaths.ts"
import { hex, text, utf8 } from "../domain/protocol/Cursor.ts"
import { type SecureFileError, SecureFileStore } from "./SecureFileStore.ts"

/** Records, revoked ones included. */
const MAX_DEVICES = 4096
const SUFFIX = ".json"
const MAX_RECORD_LENGTH = 16 * 1024

/**
 * - `Burnt`: the file has enrolled another device.
 * - `Revoked`: the device was revoked; its id is never used again.
 * - `NotFound`: no such device.
 * - `Invalid`: a name that cannot be one.
 * - `Corrupt`: the record of this id cannot be read.
 * - `Full`: `MAX_DEVICES` records.
 * - `Store`: the disk refused; `cause` is the SecureFileError.
 */
export class DevicesError extends Data.TaggedError("DevicesError")<{
  readonly reason: "Burnt" | "Revoked" | "NotFound" | "Invalid" | "Corrupt" | "Full" | "Store"
  /** One line for people: what, where, what to do. */
  readonly message: string
  readonly cause?: SecureFileError
}> {}

export interface Enrolment {
  /** The credential's, 16 bytes. */
  readonly id: Uint8Array
  /** As the device calls itself; a name that cannot be one is replaced by the id's first digits. */
  readonly name: string
  /** 32 bytes. */
  readonly staticKey: Uint8Array
  /** The device's own secret, 32 bytes. */
  readonly psk: Uint8Array
  /** The file's, ms. */
  readonly credentialValidUntil: number
}

/** A record that could not be read at start: its device stays out, its id stays burnt. */
export interface RefusedRecord {
  readonly id: string
  readonly path: string
  readonly message: string
}

export class Devices extends Context.Service<
  Devices,
  {
    /**
     * Enrols a device and burns its file, in one step; when it returns, the record is on disk. Idempotent for the same
     * static key, `Burnt` for any other. The first device is the owner; a key that is a live owner's stays one.
     */
    readonly enrol: (enrolment: Enrolment) => Effect.Effect<Device.Live, DevicesError>
    /** All records, revoked ones included, oldest first. */
    readonly list: Effect.Effect<ReadonlyArray<Device.Device>>
    readonly get: (id: string) => Effect.Effect<Option.Option<Device.Device>>
    readonly rename: (id: string, name: string) => Effect.Effect<Device.Live, DevicesError>
    /** Replaces the record by one without the secret; succeeds when that was done before. */
    readonly revoke: (id: string) => Effect.Effect<Device.Revoked, DevicesError>
    /** Removes every record, also the unreadable ones: after COMPROMISED. */
    readonly burnAll: Effect.Effect<void, DevicesError>
    /** Those who may come in. */
    readonly live: Effect.Effect<ReadonlyArray<Device.Live>>
    /** All records now and after each change. */
    readonly changes: Stream.Stream<ReadonlyArray<Device.Device>>
    readonly refused: Effect.Effect<ReadonlyArray<RefusedRecord>>
  }
>()("clawchat/services/Devices") {
  /** Records in `folder`, absolute; all are read once, when the layer is built. One process at a time may hold it. */
  static readonly layer = (folder: string): Layer.Layer<Devices, SecureFileError, SecureFileStore> =>
    Layer.effect(Devices, make(folder))
}

const decodeName = Schema.decodeUnknownOption(Device.DeviceName)
const decodeRecord = Schema.decodeUnknownOption(Device.DeviceJson)
const encodeRecord = Schema.encodeSync(Device.DeviceJson)

const isLive = (device: Device.Device): device is Device.Live => device._tag === "Live"
const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => hex(a) === hex(b)

const make = Effect.fnUntraced(function* (folder: string) {
  const store = yield* SecureFileStore
  const one = yield* Semaphore.make(1)
  const path = (id: string): string => HomePaths.join(folder, id + SUFFIX)
  const corrupt = (id: string): RefusedRecord => ({
    id,
    path: path(id),
    message: `${path(id)} is not a device record: restore it from a backup, or remove it and pair that device again`
  })

  const read = Effect.fnUntraced(function* (id: string) {
    const bytes = yield* Effect.result(store.read(path(id), { maxBytes: MAX_RECORD_LENGTH }))
    if (Result.isFailure(bytes)) return Result.fail({ id, path: path(id), message: bytes.failure.message })
    const record = Option.flatMap(bytes.success, (content) => decodeRecord(text(content)))
    return Option.isSome(record) && record.value.id === id ? Result.succeed(record.value) : Result.fail(corrupt(id))
  })

  const found: Array<Device.Device> = []
  const refused: Array<RefusedRecord> = []
  for (const name of yield* store.list(folder)) {
    const id = name.slice(0, -SUFFIX.length)
    if (!name.endsWith(SUFFIX) || !/^[0-9a-f]{32}$/.test(id)) continue
    const record = yield* read(id)
    if (Result.isSuccess(record)) {
      found.push(record.success)
    } else {
      refused.push(record.failure)
      yield* Effect.logError(record.failure.message)
    }
  }
  const order = (devices: Iterable<Device.Device>): ReadonlyArray<Device.Device> =>
    [...devices].sort((a, b) => a.enrolledAt - b.enrolledAt || (a.id < b.id ? -1 : 1))
  const records = yield* SubscriptionRef.make(order(found))

  const current = (id: string) =>
    Effect.map(SubscriptionRef.get(records), (all) => all.find((device) => device.id === id))
  const keep = (device: Device.Device) =>
    SubscriptionRef.update(records, (all) => order([...all.filter(({ id }) => id !== device.id), device]))
  const bytesOf = (device: Device.Device): Uint8Array => utf8(`${encodeRecord(device)}\n`)
  const onDisk = <A>(effect: Effect.Effect<A, SecureFileError>): Effect.Effect<A, DevicesError> =>
    Effect.mapError(effect, (cause) => new DevicesError({ reason: "Store", message: cause.message, cause }))

  const known = (device: Device.Device, enrolment: Enrolment): Effect.Effect<Device.Live, DevicesError> => {
    if (!isLive(device)) {
      return Effect.fail(
        new DevicesError({ reason: "Revoked", message: `Device ${device.id} was revoked: pair it with a fresh file` })
      )
    }
    return sameBytes(device.staticKey, enrolment.staticKey)
      ? Effect.succeed(device)
      : Effect.fail(
          new DevicesError({
            reason: "Burnt",
            message: `Credential file ${device.id} has enrolled "${device.name}" and was used again by another device: if that was not you, run clawchat devices revoke ${device.id}`
          })
        )
  }

  const enrol = Effect.fnUntraced(function* (enrolment: Enrolment) {
    const id = hex(enrolment.id)
    const before = yield* current(id)
    if (before !== undefined) return yield* known(before, enrolment)
    const unreadable = refused.find((record) => record.id === id)
    if (unreadable !== undefined) {
      return yield* new DevicesError({ reason: "Corrupt", message: unreadable.message })
    }
    const all = yield* SubscriptionRef.get(records)
    if (all.length + refused.length >= MAX_DEVICES) {
      return yield* new DevicesError({
        reason: "Full",
        message: `${folder} holds ${MAX_DEVICES} device records, the most there may be: remove old ones`
      })
    }
    const owners = all.filter((device) => isLive(device) && device.role === "owner")
    const owns =
      (owners.length === 0 && refused.length === 0) ||
      owners.some((device) => sameBytes(device.staticKey, enrolment.staticKey))
    const device = Device.make({
      id,
      name: Option.getOrElse(decodeName(enrolment.name), () => `device ${id.slice(0, 8)}`),
      role: owns ? "owner" : "member",
      staticKey: enrolment.staticKey,
      psk: enrolment.psk,
      enrolledAt: yield* Clock.currentTimeMillis,
      credentialValidUntil: enrolment.credentialValidUntil
    })
    return yield* store.create(path(id), bytesOf(device)).pipe(
      Effect.andThen(keep(device)),
      Effect.as(device),
      Effect.catch((error) => {
        if (error.reason !== "Exists") return onDisk(Effect.fail(error))
        // Someone else's record, or our own of an attempt whose outcome was not seen: the disk decides.
        return Effect.flatMap(read(id), (record) =>
          Result.isFailure(record)
            ? Effect.fail(new DevicesError({ reason: "Corrupt", message: record.failure.message }))
            : Effect.andThen(keep(record.success), known(record.success, enrolment))
        )
      })
    )
  })

  const find = Effect.fnUntraced(function* (id: string) {
    const device = yield* current(id)
    if (device !== undefined) return device
    return yield* new DevicesError({
      reason: "NotFound",
      message: `There is no device ${id}: clawchat devices ls shows those there are`
    })
  })

  const rename = Effect.fnUntraced(function* (id: string, wanted: string) {
    const device = yield* find(id)
    if (!isLive(device)) {
      return yield* new DevicesError({ reason: "Revoked", message: `Device ${id} was revoked and keeps its name` })
    }
    const name = decodeName(wanted)
    if (Option.isNone(name)) {
      return yield* new DevicesError({
        reason: "Invalid",
        message: "A device's name is one line of 1 to 64 bytes without control characters: choose another"
      })
    }
    const renamed: Device.Live = { ...device, name: name.value }
    yield* onDisk(store.write(path(id), bytesOf(renamed)))
    yield* keep(renamed)
    return renamed
  })

  const revoke = Effect.fnUntraced(function* (id: string) {
    const device = yield* find(id)
    if (!isLive(device)) return device
    const revoked = Device.revoke(device, yield* Clock.currentTimeMillis)
    yield* onDisk(store.write(path(id), bytesOf(revoked)))
    yield* keep(revoked)
    return revoked
  })

  const burnAll = Effect.gen(function* () {
    const all = yield* SubscriptionRef.get(records)
    for (const { id } of [...all, ...refused]) yield* onDisk(store.burn(path(id)))
    refused.length = 0
    yield* SubscriptionRef.set(records, [])
  })

  // What is on disk and what is in memory change together or not at all, whoever loses interest meanwhile.
  const alone = <A, E>(effect: Effect.Effect<A, E>) => one.withPermit(Effect.uninterruptible(effect))

  return Devices.of({
    enrol: Effect.fn("Devices.enrol")((enrolment: Enrolment) => alone(enrol(enrolment))),
    list: SubscriptionRef.get(records),
    get: (id) => Effect.map(current(id), Option.fromUndefinedOr),
    rename: Effect.fn("Devices.rename")((id: string, name: string) => alone(rename(id, name))),
    revoke: Effect.fn("Devices.revoke")((id: string) => alone(revoke(id))),
    burnAll: alone(burnAll),
    live: Effect.map(SubscriptionRef.get(records), (all) => all.filter(isLive)),
    changes: SubscriptionRef.changes(records),
    refused: Effect.sync(() => [...refused])
  })
})
