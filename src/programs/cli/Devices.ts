/** `clawchat devices`: who may come in. On a server's home also while the server does not run. */
import * as Effect from "effect/Effect"
import type { DeviceInfo } from "../../domain/ControlRpc.ts"
import type * as Device from "../../domain/Device.ts"
import * as HomePaths from "../../domain/HomePaths.ts"
import type { Values } from "../../domain/Settings.ts"
import { Devices } from "../../services/Devices.ts"
import * as ControlPrograms from "../Control.ts"
import * as AuditHere from "./AuditHere.ts"
import * as Common from "./Common.ts"
import { type Failure, failed, notFound } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import * as Tier from "./Tier.ts"

export interface Input extends Common.Globals {
  readonly json: boolean
  readonly timeout: number
}

const infoOf = (device: Device.Device): DeviceInfo => {
  const { enrolledAt, id, name, role } = device
  const info = { id, name, role, enrolledAt, connected: false }
  return device._tag === "Revoked" ? { ...info, revokedAt: device.revokedAt } : info
}

/** The records themselves, under the lock of a home on which no server runs. */
const onDisk = Effect.fnUntraced(function* <A>(values: Values, use: Effect.Effect<A, Failure, Devices>) {
  const paths = HomePaths.server(values.home)
  yield* Common.lock(paths.lock, "A server")
  const store = Devices.layer(paths.devices)
  return yield* Effect.mapError(Effect.provide(use, store), (error) =>
    error._tag === "SecureFileError" ? failed(error.message) : error
  )
})

/** Whether the records are to be read from disk: a server's home, and nothing runs there. */
const isIdle = Effect.fnUntraced(function* (values: Values) {
  return Tier.isServerHome(values.home) && (yield* Tier.localServer(values.home)) === undefined
})

const describe = (devices: ReadonlyArray<DeviceInfo>): string =>
  Output.table([
    ["ID", "NAME", "ROLE", "STATE", "ENROLLED"],
    ...devices.map(({ connected, enrolledAt, id, name, revokedAt, role }) => [
      id.slice(0, 8),
      name,
      role,
      revokedAt !== undefined ? "revoked" : connected ? "connected" : "away",
      new Date(enrolledAt).toISOString()
    ])
  ])

export const ls = Effect.fnUntraced(
  function* (input: Input) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const devices = (yield* isIdle(values))
      ? (yield* onDisk(
          values,
          Effect.flatMap(Devices, (service) => service.list)
        )).map(infoOf)
      : yield* Effect.flatMap(Tier.control(values, input.timeout), (control) =>
          Effect.mapError(control["Control.Devices"](undefined), Tier.controlFailure)
        )
    yield* input.json ? Output.json(devices) : Output.line(describe(devices))
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface RevokeInput extends Input {
  readonly device: string
}

export const revoke = Effect.fnUntraced(
  function* (input: RevokeInput) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const revoked = (yield* isIdle(values))
      ? yield* onDisk(
          values,
          Effect.gen(function* () {
            const service = yield* Devices
            const device = yield* Effect.mapError(
              ControlPrograms.pick(yield* service.list, input.device),
              ({ message }) => notFound(message)
            )
            const revoked = yield* Effect.mapError(service.revoke(device.id), ({ message }) => failed(message))
            const about = { device: device.id, name: device.name, by: "home" }
            yield* AuditHere.note(values.home, { kind: "device.revoked", ...about })
            return infoOf(revoked)
          })
        )
      : yield* Effect.flatMap(Tier.control(values, input.timeout), (control) =>
          Effect.mapError(control["Control.Revoke"]({ id: input.device }), Tier.controlFailure)
        )
    yield* input.json ? Output.json(revoked) : Output.note(`Revoked ${revoked.name} (${revoked.id.slice(0, 8)})`)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface RenameInput extends RevokeInput {
  readonly name: string
}

export const rename = Effect.fnUntraced(
  function* (input: RenameInput) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const { device: wanted, name } = input
    const renamed = (yield* isIdle(values))
      ? yield* onDisk(
          values,
          Effect.gen(function* () {
            const service = yield* Devices
            const device = yield* Effect.mapError(ControlPrograms.pick(yield* service.list, wanted), ({ message }) =>
              notFound(message)
            )
            const renamed = yield* Effect.mapError(service.rename(device.id, name), ({ message }) => failed(message))
            yield* AuditHere.note(values.home, { kind: "device.renamed", device: device.id, name, by: "home" })
            return infoOf(renamed)
          })
        )
      : yield* Effect.flatMap(Tier.control(values, input.timeout), (control) =>
          Effect.mapError(control["Control.Rename"]({ id: wanted, name }), Tier.controlFailure)
        )
    yield* input.json ? Output.json(renamed) : Output.note(`Renamed ${renamed.id.slice(0, 8)} to ${renamed.name}`)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)
