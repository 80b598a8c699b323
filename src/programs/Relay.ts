/**
 * The server tier: dark to all but its devices and the bearer of an unexpired `.sec` file. It answers Files and Control
 * itself and splices what is meant for the llm tier.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Status } from "../domain/ControlRpc.ts"
import { ControlRpc } from "../domain/ControlRpc.ts"
import type * as CredentialFile from "../domain/CredentialFile.ts"
import * as Device from "../domain/Device.ts"
import { FilesRpc } from "../domain/FilesRpc.ts"
import type * as HomePaths from "../domain/HomePaths.ts"
import { type Address, format } from "../domain/protocol/Address.ts"
import { fromHex, hex, text, utf8 } from "../domain/protocol/Cursor.ts"
import type { Caller as Bearer } from "../domain/protocol/Endpoint.ts"
import * as KeySchedule from "../domain/protocol/KeySchedule.ts"
import { Priority } from "../domain/protocol/Streams.ts"
import * as StreamHeader from "../domain/StreamHeader.ts"
import { Crypto } from "../services/Crypto.ts"
import { Devices } from "../services/Devices.ts"
import { RemoteFiles } from "../services/RemoteFiles.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"
import {
  type Connection,
  type Listener,
  type Notice,
  type Patience,
  Transport,
  type TransportError,
  type TransportStream
} from "../services/Transport.ts"
import * as Alarms from "./Alarms.ts"
import type { BootstrapKey } from "./BootstrapKey.ts"
import * as Control from "./Control.ts"
import * as CredentialWriter from "./CredentialWriter.ts"
import * as Files from "./Files.ts"
import * as Identity from "./Identity.ts"
import * as LlmLink from "./LlmLink.ts"
import * as NonceLog from "./NonceLog.ts"
import * as RpcStream from "./RpcStream.ts"
import { splice } from "./Splice.ts"
import { take } from "./StreamReader.ts"

/** Ports a server draws from (RFC 6335: dynamic), and how often it draws when one is taken. */
const PORT_FIRST = 49_152
const PORT_COUNT = 16_384
const PORT_TRIES = 32

/**
 * Streams to the llm tier that one device may have at a time. All devices share the one link, which carries 64: a device
 * that opens streams and leaves them must not take the assistant from the others.
 */
const MAX_LLM_STREAMS_PER_DEVICE = 16

export interface Options {
  readonly paths: HomePaths.ServerPaths
  readonly version: string
  readonly pid: number
  readonly serverId: string
  readonly serverName: string
  /** Address to bind; port 0 draws one from 49152-65535. */
  readonly bind: Address
  /** What `.sec` files announce; `publicPort` where a router forwards another one. */
  readonly publicIp: string
  readonly publicPort: number | undefined
  readonly llm: Address
  readonly patience: Patience
  readonly maxSessions: number
  readonly bootstrapKey: BootstrapKey
  readonly kdf: CredentialFile.Kdf | undefined
  readonly credentialFolder: string
  readonly backupFolder: string | undefined
  readonly validityMs: number
  readonly rotationMs: number
  readonly cleanupMs: number
  readonly natTraversal: CredentialFile.NatTraversal
  readonly gracePeriodSeconds: number
  /** Prints a line that the operator waits for. */
  readonly announce: (line: string) => Effect.Effect<void>
}

export interface Relay {
  readonly address: Address
  readonly control: Control.ServerControl
  /** Accepts connections for ever. */
  readonly run: Effect.Effect<never, TransportError>
}

/** Listens on the given port, else on that of the last run, which devices know, else on one drawn at random. */
const listenSomewhere = Effect.fnUntraced(function* (
  bind: Address,
  lastPort: string,
  listen: (address: Address) => Effect.Effect<Listener, TransportError, Scope.Scope>
) {
  const { entropy } = yield* Crypto
  const store = yield* SecureFileStore
  const isBusy = (error: TransportError): boolean => error.cause?.reason === "Busy"
  const draw = Effect.suspend(() => {
    const [high = 0, low = 0] = entropy(2)
    return listen({ host: bind.host, port: PORT_FIRST + (((high << 8) | low) % PORT_COUNT) })
  })
  const drawn = Effect.retry(draw, { times: PORT_TRIES, while: isBusy })
  const last = yield* Effect.orElseSucceed(store.read(lastPort), () => Option.none<Uint8Array>())
  const port = Number(text(Option.getOrElse(last, () => new Uint8Array(0))))
  const known = Number.isInteger(port) && port > 0 && port < 65_536
  const chosen =
    bind.port !== 0
      ? listen(bind)
      : known
        ? Effect.catchIf(listen({ host: bind.host, port }), isBusy, () => drawn)
        : drawn
  const listener = yield* chosen
  if (listener.address.port !== port) yield* store.write(lastPort, utf8(`${listener.address.port}\n`))
  return listener
})

/** Starts the server in the scope: identity, files, socket, link. `run` then serves. */
export const make = Effect.fn("Relay.make")(function* (options: Options) {
  const { paths } = options
  const store = yield* SecureFileStore
  const transport = yield* Transport
  const { primitives } = yield* Crypto
  const devices = yield* Devices
  const remoteFiles = yield* RemoteFiles
  const startedAt = yield* Clock.currentTimeMillis

  const identity = yield* Identity.loadOrCreateStatic(paths.staticKey)
  const portSeed = yield* Identity.loadOrCreateSeed(paths.portSeed)
  yield* Identity.publishKey(paths.serverPublicKey, identity.publicKey)
  const nonces = yield* NonceLog.open(paths.nonces)
  const connected = yield* SubscriptionRef.make(0)
  /** Sessions, and streams to the llm tier, by device. */
  const present = new Map<string, number>()
  const spliced = new Map<string, number>()
  const bound = yield* Deferred.make<Address>()
  const alarms = yield* Alarms.make()

  const writer = yield* CredentialWriter.make({
    folder: options.credentialFolder,
    key: options.bootstrapKey,
    ...(options.kdf === undefined ? {} : { kdf: options.kdf }),
    ...(options.backupFolder === undefined ? {} : { backupFolder: options.backupFolder }),
    connected,
    rotationMs: options.rotationMs,
    cleanupMs: options.cleanupMs,
    content: Effect.map(Deferred.await(bound), ({ port }) => ({
      serverId: options.serverId,
      serverName: options.serverName,
      serverPublicKey: identity.publicKey,
      publicIp: options.publicIp,
      udpPort: options.publicPort ?? port,
      candidates: [],
      natTraversal: options.natTraversal,
      gracePeriodSeconds: options.gracePeriodSeconds,
      bootstrapKeyId: options.bootstrapKey.id,
      validityMs: options.validityMs,
      rotationMs: options.rotationMs
    }))
  })

  const refused = yield* devices.refused
  for (const record of refused) yield* Effect.logError(record.message)
  const unreadable = refused.map((record) => record.id)
  const admissions = Stream.zipLatestWith(writer.changes, devices.changes, (files, records) =>
    Device.admissions(files, records, unreadable)
  )

  /** The one transaction of enrolment: the record that is made here burns the file. */
  const enrol = Effect.fnUntraced(function* (bearer: Bearer) {
    const { admission, deviceName, staticKey } = bearer
    const secret = primitives.dh(identity.privateKey, staticKey)
    if (secret === undefined) return false
    const enrolled = yield* Effect.result(
      devices.enrol({
        id: admission.id,
        name: deviceName,
        staticKey,
        psk: KeySchedule.deviceSecret(primitives, admission.psk, secret, admission.id),
        credentialValidUntil: admission.validUntil
      })
    )
    if (enrolled._tag === "Failure") {
      const { message, reason } = enrolled.failure
      const id = hex(admission.id)
      yield* reason === "Burnt" || reason === "Revoked"
        ? alarms.say(`used ${id}`, Effect.logWarning, `ALARM: ${message}; tried from ${format(bearer.remote)}`)
        : alarms.say(`not enrolled ${id}`, Effect.logError, message)
      return false
    }
    const device = enrolled.success
    yield* Effect.logInfo(`Device ${device.id.slice(0, 8)} "${device.name}" enrolled as ${device.role}`)
    yield* writer.burn(admission.id).pipe(
      // The record is the truth; the file is only clutter now.
      Effect.catch((error) => Effect.logWarning(`The used credential file was not removed: ${error.message}`))
    )
    return true
  })

  const notice = (event: Notice): Effect.Effect<void> => {
    switch (event.type) {
      case "Stranger":
        return alarms.say(
          `stranger ${hex(event.admission.id)}`,
          Effect.logWarning,
          event.admission.slot === undefined
            ? `ALARM: the secret of device ${hex(event.admission.id).slice(0, 8)} was used with another key, from ${format(event.remote)}: revoke it`
            : `ALARM: a used credential file was used again by another device, from ${format(event.remote)}`
        )
      case "Full":
        return alarms.say(
          "full",
          Effect.logWarning,
          `A device was turned away, for too many sessions are open; from ${format(event.remote)}`
        )
      case "Opened":
        return alarms.say(
          `opened ${hex(event.caller.admission.id)}`,
          Effect.logInfo,
          `Session of ${hex(event.caller.admission.id).slice(0, 8)} from ${format(event.caller.remote)}`
        )
      case "Refused":
        return alarms.say(
          `refused ${hex(event.caller.admission.id)}`,
          Effect.logInfo,
          `A session was refused; from ${format(event.caller.remote)}`
        )
    }
  }

  const llmKey = Effect.map(
    Effect.orElseSucceed(Identity.readKey(paths.llmPublicKey), () => Option.none<Uint8Array>()),
    Option.getOrUndefined
  ).pipe(Effect.provideService(SecureFileStore, store))

  const listener = yield* listenSomewhere(options.bind, paths.lastPort, (bind) =>
    transport.listen({
      bind,
      identity,
      patience: options.patience,
      maxSessions: options.maxSessions,
      admissions,
      seenNonces: nonces.seen,
      remember: (seen) => Effect.catch(nonces.remember(seen), (error) => Effect.logError(error.message)),
      enrolment: Effect.map(llmKey, (key) => ({ portSeed, llmKey: key })),
      enrol,
      notice
    })
  )
  yield* Deferred.succeed(bound, listener.address)
  yield* Effect.forkScoped(writer.run)
  const link = yield* LlmLink.make({
    paths,
    identity,
    address: options.llm,
    name: options.serverName,
    announce: options.announce
  })

  const status = Effect.gen(function* () {
    const drops = yield* listener.drops
    const now = yield* Clock.currentTimeMillis
    return {
      tier: "server",
      version: options.version,
      name: options.serverName,
      pid: options.pid,
      uptimeMs: now - startedAt,
      address: format(listener.address),
      sessions: yield* SubscriptionRef.get(connected),
      llm: yield* link.state,
      drops: { ...drops }
    } satisfies Omit<Status, "you">
  })

  const control: Control.ServerControl = {
    status,
    llm: link.changes,
    isConnected: (device) => Effect.sync(() => (present.get(device) ?? 0) > 0),
    renew: writer.renew
  }

  const group = ControlRpc.merge(FilesRpc)

  const serveStream = Effect.fnUntraced(function* (stream: TransportStream, device: string) {
    const { head, rest } = yield* take(stream, 1)
    if (head[0] === StreamHeader.SERVER) {
      const handlers = Layer.mergeAll(Control.layerServer(control, { type: "device", id: device }), Files.layer)
      const services = Layer.mergeAll(Layer.succeed(Devices, devices), Layer.succeed(RemoteFiles, remoteFiles))
      return yield* Effect.provide(RpcStream.serve(group, rest), Layer.provide(handlers, services))
    }
    if (head[0] === StreamHeader.LLM) {
      const { head: version, rest: body } = yield* take(rest, 1)
      const llm = yield* link.connection
      if (Option.isNone(llm)) return yield* giveUp(stream, StreamHeader.Code.TierAway)
      if ((spliced.get(device) ?? 0) >= MAX_LLM_STREAMS_PER_DEVICE) {
        return yield* giveUp(stream, StreamHeader.Code.TooMany)
      }
      const onward = Effect.gen(function* () {
        const upstream = yield* llm.value.open(Priority.Interactive)
        yield* upstream.write(StreamHeader.llmTier(version[0] ?? 0, fromHex(device) ?? new Uint8Array(16)))
        yield* splice(body, upstream)
      })
      return yield* Effect.acquireUseRelease(
        tally(spliced, device, 1),
        () => onward,
        () => tally(spliced, device, -1)
      )
    }
    return yield* giveUp(stream, StreamHeader.Code.Unknown)
  })

  const serveConnection = Effect.fnUntraced(function* (connection: Connection) {
    const device = connection.credential
    const count = (by: number) =>
      Effect.andThen(
        tally(present, device, by),
        SubscriptionRef.update(connected, (n) => n + by)
      )
    yield* count(1)
    const streams = yield* FiberSet.make()
    const accept = Effect.forever(
      Effect.flatMap(connection.accept, (stream) =>
        FiberSet.run(
          streams,
          serveStream(stream, device).pipe(
            // An ordinary end of the stream or of the connection.
            Effect.catch((error) => (Cause.isDone(error) ? Effect.void : giveUp(stream, StreamHeader.Code.TierAway)))
          )
        )
      )
    )
    yield* Effect.ensuring(Effect.ignore(accept), count(-1))
  }, Effect.scoped)

  const connections = yield* FiberSet.make()
  const relay: Relay = {
    address: listener.address,
    control,
    run: Effect.forever(
      Effect.flatMap(listener.accept, (connection) => FiberSet.run(connections, serveConnection(connection)))
    )
  }
  return relay
})

/** Counts by device; a device at zero is forgotten. */
const tally = (counts: Map<string, number>, device: string, by: number): Effect.Effect<void> =>
  Effect.sync(() => {
    const count = (counts.get(device) ?? 0) + by
    if (count === 0) counts.delete(device)
    else counts.set(device, count)
  })

const giveUp = (stream: TransportStream, code: number): Effect.Effect<void> =>
  Effect.andThen(stream.reset(code), stream.stop(code))
