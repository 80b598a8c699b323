/** Enrolled devices as the server keeps them, and whom that lets in. */
import * as Schema from "effect/Schema"
import * as Bytes from "./Bytes.ts"
import { CLOCK_SKEW_MS } from "./CredentialFile.ts"
import * as Constants from "./protocol/Constants.ts"
import type { Admission } from "./protocol/Credential.ts"
import { fromHex, hex, utf8 } from "./protocol/Cursor.ts"

/** The credential's id in hexadecimal digits: 32, lower case. */
export const DeviceId = Schema.String.check(Schema.isPattern(/^[0-9a-f]{32}$/))

/** What a user calls a device: one line, at most 64 UTF-8 bytes. */
export const DeviceName = Bytes.line(Constants.MAX_DEVICE_NAME_LENGTH).check(
  Schema.makeFilter((name: string) => utf8(name).length <= Constants.MAX_DEVICE_NAME_LENGTH, {
    expected: `at most ${Constants.MAX_DEVICE_NAME_LENGTH} bytes`
  })
)

export const Role = Schema.Literals(["owner", "member"])
export type Role = typeof Role.Type

const RECORD_VERSION = 1
const Millis = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))

const common = {
  version: Schema.Literal(RECORD_VERSION),
  id: DeviceId,
  name: DeviceName,
  role: Role,
  /** X25519 public key: the device itself. */
  staticKey: Bytes.hex(Constants.SECRET_LENGTH),
  /** Milliseconds since 1970, as the other times. */
  enrolledAt: Millis,
  /** Until then the burnt file still admits this device. */
  credentialValidUntil: Millis
}

/** A device that may come in. Its existence is what burnt the file it came with. */
export const Live = Schema.TaggedStruct("Live", { ...common, psk: Bytes.hex(Constants.SECRET_LENGTH) })
export type Live = typeof Live.Type

/** What stays of a revoked device: its id is never used again, its key is recognised, its secret is gone. */
export const Revoked = Schema.TaggedStruct("Revoked", { ...common, revokedAt: Millis })
export type Revoked = typeof Revoked.Type

export const Device = Schema.Union([Live, Revoked])
export type Device = typeof Device.Type

export const DeviceJson = Schema.fromJsonString(Device)

export const make = (fields: Omit<Live, "_tag" | "version">): Live => ({
  _tag: "Live",
  version: RECORD_VERSION,
  ...fields
})

export const revoke = ({ psk: _, ...device }: Live, now: number): Revoked => ({
  ...device,
  _tag: "Revoked",
  revokedAt: now
})

/** An unexpired `.sec` file that the server has written. */
export interface LiveCredential {
  /** 16 bytes. */
  readonly id: Uint8Array
  /** 32 bytes. */
  readonly psk: Uint8Array
  /** Milliseconds; the slot of the file's hints. */
  readonly validFrom: number
  readonly validUntil: number
}

/** No private key has it, so whoever comes is a stranger: still recognised, still refused. */
const NOBODY = new Uint8Array(Constants.SECRET_LENGTH)

/**
 * Whom the server expects: every live device under its own secret, every unexpired file under the file's. A file that
 * enrolled a device admits that device's key alone, and nobody once the device is revoked or its record (`unreadable`,
 * by id) cannot be read.
 */
export const admissions = (
  files: ReadonlyArray<LiveCredential>,
  devices: ReadonlyArray<Device>,
  unreadable: ReadonlyArray<string> = []
): ReadonlyArray<Admission> => {
  const byId = new Map(devices.map((device) => [device.id, device]))
  const out: Array<Admission> = []
  for (const device of devices) {
    const id = fromHex(device.id)
    if (device._tag === "Revoked" || id === undefined) continue
    out.push({
      id,
      psk: device.psk,
      slot: undefined,
      staticKey: device.staticKey,
      validUntil: Number.POSITIVE_INFINITY
    })
  }
  for (const file of files) {
    const key = hex(file.id)
    const device = byId.get(key)
    out.push({
      id: file.id,
      psk: file.psk,
      slot: file.validFrom,
      staticKey: device?._tag === "Revoked" || unreadable.includes(key) ? NOBODY : device?.staticKey,
      validUntil: file.validUntil + CLOCK_SKEW_MS
    })
  }
  return out
}
