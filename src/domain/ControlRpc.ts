/**
 * What a tier answers about itself: over its control socket to whoever owns the home, and, at the server, to enrolled
 * devices. What a caller may do is decided by who it is, not by how it asks.
 */
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { DeviceId, DeviceName, Role } from "./Device.ts"

/**
 * - `Denied`: this caller may not.
 * - `NotFound`: no such device, or this tier does not do that.
 * - `Failed`: the disk refused, or the like.
 */
export class ControlError extends Schema.TaggedError<ControlError>()("ControlError", {
  reason: Schema.Literals(["Denied", "NotFound", "Failed"]),
  /** One line for people. */
  message: Schema.String
}) {}

/** Whether the server reaches the llm tier; `since` in ms since 1970. */
export const LlmLinkState = Schema.Struct({ connected: Schema.Boolean, since: Schema.Finite })
export type LlmLinkState = typeof LlmLinkState.Type

export const Status = Schema.Struct({
  tier: Schema.Literals(["server", "llm"]),
  version: Schema.String,
  name: Schema.String,
  pid: Schema.Int,
  uptimeMs: Schema.Finite,
  /** `host:port` of the UDP socket. */
  address: Schema.String,
  sessions: Schema.Int,
  /** Only the server: devices that may come in, and the link to the llm tier. */
  devices: Schema.optionalKey(Schema.Int),
  llm: Schema.optionalKey(LlmLinkState),
  /** Datagrams that led nowhere, by reason. */
  drops: Schema.Record(Schema.String, Schema.Int),
  /** Who asks: absent on the control socket. */
  you: Schema.optionalKey(Schema.Struct({ device: DeviceId, name: Schema.String, role: Role }))
})
export type Status = typeof Status.Type

export const DeviceInfo = Schema.Struct({
  id: DeviceId,
  name: Schema.String,
  role: Role,
  enrolledAt: Schema.Finite,
  revokedAt: Schema.optionalKey(Schema.Finite),
  connected: Schema.Boolean
})
export type DeviceInfo = typeof DeviceInfo.Type

export const IssuedCredential = Schema.Struct({
  /** Where it stands on the server's machine. */
  path: Schema.String,
  validUntil: Schema.Finite,
  /** The sealed file, for a device that asked over the line. */
  bytes: Schema.Uint8ArrayFromBase64
})

const GetStatus = Rpc.make("Status", { success: Status, error: ControlError })

/** The state of the link to the llm tier, now and at each change. */
const Watch = Rpc.make("Watch", { success: LlmLinkState, error: ControlError, stream: true })

/** Gives the bytes back: what a round trip through all layers takes. */
const Echo = Rpc.make("Echo", {
  payload: { data: Schema.String.check(Schema.isMaxLength(4096)) },
  success: Schema.String,
  error: ControlError
})

const Devices = Rpc.make("Devices", { success: Schema.Array(DeviceInfo), error: ControlError })

const Rename = Rpc.make("Rename", {
  payload: { id: Schema.String, name: DeviceName },
  success: DeviceInfo,
  error: ControlError
})

/** `id` may be the first digits of one, or a name, when only one device matches. */
const Revoke = Rpc.make("Revoke", { payload: { id: Schema.String }, success: DeviceInfo, error: ControlError })

const NewCredential = Rpc.make("NewCredential", { success: IssuedCredential, error: ControlError })

/** Tags are `Control.Status`, `Control.Watch`, ...: unique over all groups. */
export class ControlRpc extends RpcGroup.make(GetStatus, Watch, Echo, Devices, Rename, Revoke, NewCredential).prefix(
  "Control."
) {}
