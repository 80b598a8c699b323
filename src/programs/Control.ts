/** Answers the Control procedures, for the owner on the control socket and for devices over the line. */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Rpc from "effect/rpc/Rpc"
import type * as RpcGroup from "effect/rpc/RpcGroup"
import * as Stream from "effect/Stream"
import { ControlError, ControlRpc, type DeviceInfo, type LlmLinkState, type Status } from "../domain/ControlRpc.ts"
import type * as Device from "../domain/Device.ts"
import { Devices, type DevicesError } from "../services/Devices.ts"
import type { SecureFileError } from "../services/SecureFileStore.ts"
import type { Issued } from "./CredentialWriter.ts"

/** Who asks: the owner of the home, or a device. */
export type Caller = { readonly type: "owner" } | { readonly type: "device"; readonly id: string }

/** What only the running server can tell or do. */
export interface ServerControl {
  readonly status: Effect.Effect<Omit<Status, "you" | "devices">>
  readonly llm: Stream.Stream<LlmLinkState>
  readonly isConnected: (device: string) => Effect.Effect<boolean>
  readonly renew: Effect.Effect<Issued, SecureFileError>
}

const denied = (what: string): ControlError =>
  new ControlError({ reason: "Denied", message: `only the owner's device may ${what}` })

const ofDevices = (error: DevicesError): ControlError =>
  new ControlError({ reason: error.reason === "NotFound" ? "NotFound" : "Failed", message: error.message })

/** The one device that `wanted` names: a whole id, the first digits of one (four at least), or a name. */
export const pick = Effect.fnUntraced(function* (all: ReadonlyArray<Device.Device>, wanted: string) {
  const exact = all.filter((device) => device.id === wanted)
  const live = all.filter((device) => device._tag === "Live")
  const named = live.filter(
    (device) => device.name === wanted || (wanted.length >= 4 && device.id.startsWith(wanted.toLowerCase()))
  )
  const found = exact.length > 0 ? exact : named
  const [first, second] = found
  if (first === undefined) {
    return yield* new ControlError({ reason: "NotFound", message: `no device "${wanted}": see clawchat devices ls` })
  }
  if (second !== undefined) {
    const ids = found.map((device) => device.id.slice(0, 8)).join(", ")
    return yield* new ControlError({
      reason: "NotFound",
      message: `"${wanted}" names several devices (${ids}): give the id`
    })
  }
  return first
})

/** The handlers of one caller at the server. */
export const layerServer = (
  control: ServerControl,
  caller: Caller
): Layer.Layer<Rpc.ToHandler<RpcGroup.Rpcs<typeof ControlRpc>>, never, Devices> =>
  ControlRpc.toLayer(
    Effect.gen(function* () {
      const devices = yield* Devices
      const self = Effect.map(devices.list, (all) =>
        caller.type === "owner" ? undefined : all.find((device) => device.id === caller.id)
      )
      const mayManage = Effect.map(self, (device) => caller.type === "owner" || device?.role === "owner")
      const infoOf = Effect.fnUntraced(function* (device: Device.Device) {
        const connected = yield* control.isConnected(device.id)
        const { enrolledAt, id, name, role } = device
        const info: DeviceInfo = { id, name, role, enrolledAt, connected }
        return device._tag === "Revoked" ? { ...info, revokedAt: device.revokedAt } : info
      })
      return ControlRpc.of({
        "Control.Status": Effect.fnUntraced(function* () {
          const status = yield* control.status
          const live = yield* devices.live
          const you = yield* self
          return {
            ...status,
            devices: live.length,
            ...(you === undefined ? {} : { you: { device: you.id, name: you.name, role: you.role } })
          }
        }),
        "Control.Watch": () => control.llm,
        "Control.Echo": ({ data }) => Effect.succeed(data),
        "Control.Devices": Effect.fnUntraced(function* () {
          const all = yield* devices.list
          const mine = (yield* mayManage)
            ? all
            : all.filter((device) => caller.type === "device" && device.id === caller.id)
          return yield* Effect.forEach(mine, infoOf)
        }),
        "Control.Rename": Effect.fnUntraced(function* ({ id, name }) {
          const device = yield* pick(yield* devices.list, id)
          const own = caller.type === "device" && caller.id === device.id
          if (!own && !(yield* mayManage)) return yield* denied("rename another device")
          return yield* infoOf(yield* Effect.mapError(devices.rename(device.id, name), ofDevices))
        }),
        "Control.Revoke": Effect.fnUntraced(function* ({ id }) {
          const device = yield* pick(yield* devices.list, id)
          const own = caller.type === "device" && caller.id === device.id
          if (!own && !(yield* mayManage)) return yield* denied("revoke another device")
          return yield* infoOf(yield* Effect.mapError(devices.revoke(device.id), ofDevices))
        }),
        "Control.NewCredential": Effect.fnUntraced(function* () {
          if (!(yield* mayManage)) return yield* denied("ask for a new credential file")
          const { bytes, content, path } = yield* Effect.mapError(
            control.renew,
            (error) => new ControlError({ reason: "Failed", message: error.message })
          )
          return { path, validUntil: content.valid_until, bytes }
        })
      })
    })
  )

/** The handlers of the llm tier, which knows its own state and nothing of devices. */
export const layerLlm = (
  status: Effect.Effect<Status>
): Layer.Layer<Rpc.ToHandler<RpcGroup.Rpcs<typeof ControlRpc>>> => {
  const elsewhere = new ControlError({ reason: "NotFound", message: "the llm tier does not do that: ask the server" })
  return ControlRpc.toLayer({
    "Control.Status": () => status,
    "Control.Watch": () => Stream.fail(elsewhere),
    "Control.Echo": ({ data }) => Effect.succeed(data),
    "Control.Devices": () => Effect.fail(elsewhere),
    "Control.Rename": () => Effect.fail(elsewhere),
    "Control.Revoke": () => Effect.fail(elsewhere),
    "Control.NewCredential": () => Effect.fail(elsewhere)
  })
}
