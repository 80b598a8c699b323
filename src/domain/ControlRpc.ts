/**
 * What a tier answers about itself: over its control socket to whoever owns the home, and, at the server, to enrolled
 * devices. What a caller may do is decided by who it is, not by how it asks.
 */
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import * as AuditEvent from "./AuditEvent.ts"
import * as CredentialFile from "./CredentialFile.ts"
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
export const LlmLinkState = Schema.Struct({
  connected: Schema.Boolean,
  since: Schema.Finite,
  /** The llm tier's static key, 64 hexadecimal digits, once the server knows it. */
  key: Schema.optionalKey(Schema.String)
})
export type LlmLinkState = typeof LlmLinkState.Type

export const Status = Schema.Struct({
  tier: Schema.Literals(["server", "llm", "rendezvous"]),
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

/** What a device keeps so as to find the server again: everything that may have changed since it enrolled. */
export const Reach = Schema.Struct({
  serverName: Schema.String,
  /** Finds the server's ports; 32 bytes. */
  portSeed: Schema.Uint8ArrayFromBase64,
  /** Milliseconds that the server keeps a port; 0 where it never changes. */
  portPeriodMs: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 86_400_000 })),
  /** Where the server is now, best first. */
  candidates: Schema.Array(CredentialFile.Candidate).check(Schema.isMaxLength(16)),
  natTraversal: CredentialFile.NatTraversal
})
export type Reach = typeof Reach.Type

const GetReach = Rpc.make("Reach", { success: Reach, error: ControlError })

/** Records that are asked for at a time, at most. */
export const MAX_AUDIT_RECORDS = 10_000

/** What happened: the newest `limit` records that fit, the oldest of them first. Only for the owner. */
const GetAudit = Rpc.make("Audit", {
  payload: {
    /** Milliseconds since 1970. */
    since: Schema.optionalKey(Schema.Finite),
    kinds: Schema.optionalKey(Schema.Array(Schema.Literals(AuditEvent.KINDS)).check(Schema.isMaxLength(64))),
    limit: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: MAX_AUDIT_RECORDS }))
  },
  success: AuditEvent.Record,
  error: ControlError,
  stream: true
})

/** What an answer file made the server do. */
export const Punched = Schema.Struct({
  /** The credential that the device comes with: 32 hexadecimal digits. */
  credential: DeviceId,
  /** `host:port`: where datagrams are sent. */
  candidates: Schema.Array(Schema.String),
  /** For so long. */
  durationMs: Schema.Finite
})

/** Sends datagrams to where the device that has written this answer file (one line) is. Only from the server's home. */
const Answer = Rpc.make("Answer", {
  payload: { line: Schema.String.check(Schema.isMaxLength(4096)) },
  success: Punched,
  error: ControlError
})

/** Burns all keys of the server. Only from its own home: a device says COMPROMISED on the wire. Answers once it is certain. */
const Compromised = Rpc.make("Compromised", { error: ControlError })

/** Tags are `Control.Status`, `Control.Watch`, ...: unique over all groups. */
export class ControlRpc extends RpcGroup.make(
  GetStatus,
  Watch,
  Echo,
  Devices,
  Rename,
  Revoke,
  NewCredential,
  GetReach,
  Answer,
  GetAudit,
  Compromised
).prefix("Control.") {}
