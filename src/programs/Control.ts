/** Answers the Control procedures, for the owner on the control socket and for devices over the line. */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Rpc from "effect/rpc/Rpc"
import type * as RpcGroup from "effect/rpc/RpcGroup"
import * as Stream from "effect/Stream"
import {
  ControlError,
  ControlRpc,
  type DeviceInfo,
  type LlmLinkState,
  type Reach,
  type Status
} from "../domain/ControlRpc.ts"
import type * as Device from "../domain/Device.ts"
import { format } from "../domain/protocol/Address.ts"
import type { Audit } from "../services/Audit.ts"
import { Devices, type DevicesError } from "../services/Devices.ts"
import type { SecureFileError } from "../services/SecureFileStore.ts"
import type { AnswerError, Answers } from "./Answers.ts"
import type { AuditTrail } from "./AuditTrail.ts"
import type { Issued } from "./CredentialWriter.ts"

/** Who asks: the owner of the home, or a device. */
export type Caller = { readonly type: "owner" } | { readonly type: "device"; readonly id: string }

/** What only the running server can tell or do. */
export interface ServerControl {
  readonly status: Effect.Effect<Omit<Status, "you" | "devices">>
  readonly llm: Stream.Stream<LlmLinkState>
  readonly isConnected: (device: string) => Effect.Effect<boolean>
  /** Where a device (its id, 32 hexadecimal digits) finds the server from now on. */
  readonly reach: (device: string) => Effect.Effect<Reach>
  readonly renew: Effect.Effect<Issued, SecureFileError>
  /** What happened, and where more of it is put on record. */
  readonly audit: Pick<AuditTrail, "note"> & Pick<Audit["Service"], "read">
  /** Punches for the device that has written this answer file. */
  readonly answer: Answers["take"]
  /** Burns everything; completes when nothing can stop it any more. */
  readonly compromise: Effect.Effect<void>
}

const denied = (what: string): ControlError =>
  new ControlError({ reason: "Denied", message: `only the owner's device may ${what}` })

const ofDevices = (error: DevicesError): ControlError =>
  new ControlError({ reason: error.reason === "NotFound" ? "NotFound" : "Failed", message: error.message })

const ofAnswers = ({ message, reason }: AnswerError): ControlError =>
  new ControlError({ reason: reason === "Busy" ? "Failed" : "Denied", message })

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
      const by = caller.type === "owner" ? "home" : caller.id
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
          const renamed = yield* Effect.mapError(devices.rename(device.id, name), ofDevices)
          yield* control.audit.note({ kind: "device.renamed", device: device.id, name, by })
          return yield* infoOf(renamed)
        }),
        "Control.Revoke": Effect.fnUntraced(function* ({ id }) {
          const device = yield* pick(yield* devices.list, id)
          const own = caller.type === "device" && caller.id === device.id
          if (!own && !(yield* mayManage)) return yield* denied("revoke another device")
          const revoked = yield* Effect.mapError(devices.revoke(device.id), ofDevices)
          yield* control.audit.note({ kind: "device.revoked", device: device.id, name: device.name, by })
          return yield* infoOf(revoked)
        }),
        "Control.NewCredential": Effect.fnUntraced(function* () {
          if (!(yield* mayManage)) return yield* denied("ask for a new credential file")
          const { bytes, content, path } = yield* Effect.mapError(
            control.renew,
            (error) => new ControlError({ reason: "Failed", message: error.message })
          )
          return { path, validUntil: content.valid_until, bytes }
        }),
        "Control.Reach": () =>
          caller.type === "device"
            ? control.reach(caller.id)
            : Effect.fail(new ControlError({ reason: "Denied", message: "only a device is told how to come back" })),
        "Control.Answer": Effect.fnUntraced(function* ({ line }) {
          if (caller.type !== "owner") {
            return yield* new ControlError({ reason: "Denied", message: "only the server's home takes answer files" })
          }
          const { candidates, credential, durationMs } = yield* Effect.mapError(control.answer(line), ofAnswers)
          return { credential, candidates: candidates.map(format), durationMs }
        }),
        "Control.Audit": ({ kinds, limit, since }) =>
          Effect.gen(function* () {
            if (!(yield* mayManage)) return yield* denied("read the record")
            const records = yield* Effect.mapError(
              control.audit.read({ sinceMs: since, kinds, limit }),
              ({ message }) => new ControlError({ reason: "Failed", message })
            )
            return Stream.fromIterable(records)
          }).pipe(Stream.unwrap),
        "Control.Compromised": () =>
          caller.type === "owner"
            ? control.compromise
            : Effect.fail(
                new ControlError({ reason: "Denied", message: "a device says so itself: clawchat compromised" })
              )
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
    "Control.NewCredential": () => Effect.fail(elsewhere),
    "Control.Reach": () => Effect.fail(elsewhere),
    "Control.Answer": () => Effect.fail(elsewhere),
    "Control.Audit": () => Stream.fail(elsewhere),
    "Control.Compromised": () => Effect.fail(elsewhere)
  })
}
