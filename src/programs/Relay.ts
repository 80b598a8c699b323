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
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Status } from "../domain/ControlRpc.ts"
import { ControlRpc } from "../domain/ControlRpc.ts"
import type * as CredentialFile from "../domain/CredentialFile.ts"
import * as Device from "../domain/Device.ts"
import { FilesRpc } from "../domain/FilesRpc.ts"
import type * as HomePaths from "../domain/HomePaths.ts"
import { type Address, format } from "../domain/protocol/Address.ts"
import { CREDENTIAL_ID_LENGTH } from "../domain/protocol/Constants.ts"
import { fromHex, hex } from "../domain/protocol/Cursor.ts"
import type { Caller as Bearer } from "../domain/protocol/EndpointTypes.ts"
import * as KeySchedule from "../domain/protocol/KeySchedule.ts"
import { Priority } from "../domain/protocol/Streams.ts"
import type { Pairing } from "../domain/RendezvousLine.ts"
import type { ServerName } from "../domain/ServerName.ts"
import * as StreamHeader from "../domain/StreamHeader.ts"
import { Audit } from "../services/Audit.ts"
import { Crypto } from "../services/Crypto.ts"
import { Devices } from "../services/Devices.ts"
import type { PortMapper } from "../services/PortMapper.ts"
import { RemoteFiles } from "../services/RemoteFiles.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"
import {
  type Connection,
  type Notice,
  type Patience,
  Transport,
  type TransportError,
  type TransportStream
} from "../services/Transport.ts"
import * as Alarms from "./Alarms.ts"
import * as Answers from "./Answers.ts"
import * as AuditTrail from "./AuditTrail.ts"
import type { BootstrapKey } from "./BootstrapKey.ts"
import type { Plan } from "./Burn.ts"
import type { Burned } from "./Compromise.ts"
import * as Control from "./Control.ts"
import * as CredentialWriter from "./CredentialWriter.ts"
import * as Files from "./Files.ts"
import * as FilesBulk from "./FilesBulk.ts"
import * as Identity from "./Identity.ts"
import * as LlmLink from "./LlmLink.ts"
import * as NonceLog from "./NonceLog.ts"
import * as RelayRecord from "./RelayRecord.ts"
import * as RpcStream from "./RpcStream.ts"
import * as ServerCompromise from "./ServerCompromise.ts"
import * as ServerPort from "./ServerPort.ts"
import * as ServerReach from "./ServerReach.ts"
import { splice } from "./Splice.ts"
import { take } from "./StreamReader.ts"
import * as TransferClaims from "./TransferClaims.ts"
import type { TurnKeys } from "./TurnKeys.ts"

/**
 * Streams to the llm tier that one device may have at a time. All devices share the one link, which carries 64: a device
 * that opens streams and leaves them must not take the assistant from the others.
 */
const MAX_LLM_STREAMS_PER_DEVICE = 16
/** Streams of files that one device may have at a time: each may hold some 40 MiB while the disk is slow. */
const MAX_FILE_STREAMS_PER_DEVICE = 4

export interface Options {
  readonly paths: HomePaths.ServerPaths
  /** What COMPROMISED burns. */
  readonly plan: Plan
  readonly version: string
  readonly pid: number
  readonly serverId: string
  readonly serverName: string
  /** Address to bind; with port 0 the port is one of 49152-65535 and changes every `portRotationMs`. */
  readonly bind: Address
  readonly portRotationMs: number
  readonly keyRotationMs: number
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
  /** STUN servers that tell our public address. */
  readonly stun: ReadonlyArray<ServerName>
  /** Relays that sessions may come by. */
  readonly turn: TurnKeys | undefined
  readonly rendezvous: ReadonlyArray<Pairing>
  /** Asks the router before us for our ports; nobody does without it. */
  readonly portMapper?: PortMapper["Service"] | undefined
  readonly natTraversal: CredentialFile.NatTraversal
  readonly gracePeriodSeconds: number
  /** Prints a line that the operator waits for. */
  readonly announce: (line: string) => Effect.Effect<void>
}

export interface Relay {
  readonly address: Address
  readonly control: Control.ServerControl
  /** Accepts connections for ever; `Burned` when all keys are burnt and the process must end. */
  readonly run: Effect.Effect<never, TransportError | Burned>
}

/** Starts the server in the scope: identity, files, socket, link. `run` then serves. */
export const make = Effect.fn("Relay.make")(function* (options: Options) {
  const { paths } = options
  const store = yield* SecureFileStore
  const transport = yield* Transport
  const crypto = yield* Crypto
  const { entropy, primitives } = crypto
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
  const carrying = new Map<string, number>()
  const claims = TransferClaims.make()
  const bound = yield* Deferred.make<ServerReach.ServerReach>()
  const alarms = yield* Alarms.make()
  const audit = yield* Audit
  const trail = yield* AuditTrail.make()

  const writer = yield* CredentialWriter.make({
    folder: options.credentialFolder,
    key: options.bootstrapKey,
    ...(options.kdf === undefined ? {} : { kdf: options.kdf }),
    ...(options.backupFolder === undefined ? {} : { backupFolder: options.backupFolder }),
    connected,
    relocated: Effect.fnUntraced(function* (content) {
      const { announced } = yield* Deferred.await(bound)
      const { candidates, host, port } = yield* announced(content.valid_until)
      return { ...content, server_public_ip: host, server_udp_port: port, candidates }
    }),
    issued: ({ content }) => trail.note(RelayRecord.issued(content)),
    rotationMs: options.rotationMs,
    cleanupMs: options.cleanupMs,
    content: Effect.gen(function* () {
      const { announced, natTraversal, settled } = yield* Deferred.await(bound)
      yield* settled
      const connectionId = entropy(CREDENTIAL_ID_LENGTH)
      const { candidates, host, port } = yield* announced((yield* Clock.currentTimeMillis) + options.validityMs)
      return {
        serverId: options.serverId,
        serverName: options.serverName,
        serverPublicKey: identity.publicKey,
        publicIp: host,
        udpPort: port,
        candidates,
        natTraversal: yield* natTraversal(connectionId),
        connectionId,
        gracePeriodSeconds: options.gracePeriodSeconds,
        bootstrapKeyId: options.bootstrapKey.id,
        validityMs: options.validityMs,
        rotationMs: options.rotationMs
      }
    })
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
      yield* trail.note({ kind: "session.refused", device: id, source: format(bearer.remote), why: reason })
      yield* reason === "Burnt" || reason === "Revoked"
        ? alarms.say(`used ${id}`, Effect.logWarning, `ALARM: ${message}; tried from ${format(bearer.remote)}`)
        : alarms.say(`not enrolled ${id}`, Effect.logError, message)
      return false
    }
    const device = enrolled.success
    yield* Effect.logInfo(`Device ${device.id.slice(0, 8)} "${device.name}" enrolled as ${device.role}`)
    const { id, name, role } = device
    yield* trail.note({ kind: "device.enrolled", device: id, name, role, source: format(bearer.remote) })
    yield* writer.burn(admission.id).pipe(
      // The record is the truth; the file is only clutter now.
      Effect.catch((error) => Effect.logWarning(`The used credential file was not removed: ${error.message}`))
    )
    return true
  })

  const record = (event: Notice): Effect.Effect<void> => {
    const happened = RelayRecord.noticed(event)
    return happened === undefined ? Effect.void : trail.note(happened)
  }

  const notice = (event: Notice): Effect.Effect<void> => {
    if (event.type !== "Stranger") return record(event)
    const id = hex(event.admission.id)
    const alarm =
      event.admission.slot === undefined
        ? `ALARM: the secret of device ${id.slice(0, 8)} was used with another key, from ${format(event.remote)}: revoke it`
        : `ALARM: a used credential file was used again by another device, from ${format(event.remote)}`
    return Effect.andThen(record(event), alarms.say(`stranger ${id}`, Effect.logWarning, alarm))
  }

  const llmKey = Effect.map(
    Effect.orElseSucceed(Identity.readKey(paths.llmPublicKey), () => Option.none<Uint8Array>()),
    Option.getOrUndefined
  ).pipe(Effect.provideService(SecureFileStore, store))

  const ports = yield* ServerPort.make({
    bind: options.bind,
    publicIp: options.publicIp,
    publicPort: options.publicPort,
    seed: portSeed,
    periodMs: options.portRotationMs,
    graceMs: options.gracePeriodSeconds * 1000,
    lastPort: paths.lastPort,
    listen: (bind) =>
      transport.listen({
        bind,
        identity,
        patience: options.patience,
        rekeyIntervalMs: options.keyRotationMs,
        maxSessions: options.maxSessions,
        admissions,
        seenNonces: nonces.seen,
        remember: (seen) => Effect.catch(nonces.remember(seen), (error) => Effect.logError(error.message)),
        enrolment: Effect.map(llmKey, (key) => ({ portSeed, llmKey: key })),
        enrol,
        notice
      }),
    changed: (event) => trail.note(RelayRecord.port(event))
  })
  const { listener } = ports
  const reach = yield* ServerReach.make({
    ports,
    publicIp: options.publicIp,
    serverKey: identity.publicKey,
    stun: options.stun,
    turn: options.turn,
    rendezvous: options.rendezvous,
    portMapper: options.portMapper,
    credentials: Stream.map(admissions, (all) => all.map(({ id }) => id)),
    timeout: options.natTraversal.timeout
  })
  yield* Deferred.succeed(bound, reach)
  yield* trail.note({ kind: "server.started", version: options.version, address: format(listener.address) })
  yield* Effect.addFinalizer(() => trail.note({ kind: "server.stopped" }))
  yield* Effect.forkScoped(trail.watch(listener.drops))
  yield* Effect.forkScoped(ports.run)
  yield* Effect.forkScoped(writer.run)
  const moves = Stream.merge(
    reach.changes,
    Stream.map(SubscriptionRef.changes(ports.current), () => undefined)
  )
  yield* Effect.forkScoped(
    Stream.runForEach(moves, () =>
      Effect.catch(writer.relocate, ({ message }) =>
        Effect.logWarning(`The credential file says where the server was: ${message}`)
      )
    )
  )
  const link = yield* LlmLink.make({
    paths,
    identity,
    address: options.llm,
    name: options.serverName,
    announce: options.announce
  })

  const answers = yield* Answers.make({
    listener,
    port: Effect.map(SubscriptionRef.get(ports.current), ({ address }) => address),
    admissions,
    taken: ({ candidates, credential: device }) =>
      trail.note({
        kind: "answer.taken",
        device,
        source: candidates.slice(0, 1).map(format).join(),
        addresses: candidates.length
      })
  })

  const compromise = yield* ServerCompromise.make({
    plan: options.plan,
    paths,
    listener,
    link,
    identity,
    secrets: [portSeed],
    noted: (scope, by) => trail.note({ kind: "compromised", alert: true, scope, by })
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
      address: format((yield* SubscriptionRef.get(ports.current)).address),
      sessions: yield* SubscriptionRef.get(connected),
      llm: yield* link.state,
      drops: { ...drops }
    } satisfies Omit<Status, "you">
  })

  const control: Control.ServerControl = {
    status,
    llm: link.changes,
    reach: Effect.fnUntraced(function* (device) {
      const now = yield* Clock.currentTimeMillis
      const { candidates, host, port } = yield* reach.announced(now)
      return {
        serverName: options.serverName,
        portSeed,
        portPeriodMs: ports.periodMs,
        candidates: [{ kind: "host" as const, address: host, port }, ...candidates],
        natTraversal: yield* reach.natTraversal(fromHex(device) ?? new Uint8Array(0))
      }
    }),
    isConnected: (device) => Effect.sync(() => (present.get(device) ?? 0) > 0),
    renew: writer.renew,
    audit: { note: trail.note, read: audit.read },
    answer: answers.take,
    compromise: compromise.request
  }

  const group = ControlRpc.merge(FilesRpc)

  const serveStream = Effect.fnUntraced(function* (stream: TransportStream, device: string) {
    const { head, rest } = yield* take(stream, 1)
    if (head[0] === StreamHeader.SERVER) {
      const handlers = Layer.mergeAll(Control.layerServer(control, { type: "device", id: device }), Files.layer)
      const services = Layer.mergeAll(
        Layer.succeed(Crypto, crypto),
        Layer.succeed(Devices, devices),
        Layer.succeed(RemoteFiles, remoteFiles)
      )
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
    if (head[0] === StreamHeader.FILES) {
      const { head: version, rest: frames } = yield* take(rest, 1)
      if (!StreamHeader.servesFiles(version[0])) return yield* giveUp(stream, StreamHeader.Code.Unknown)
      if ((carrying.get(device) ?? 0) >= MAX_FILE_STREAMS_PER_DEVICE) {
        return yield* giveUp(stream, StreamHeader.Code.TooMany)
      }
      yield* stream.setPriority(Priority.Bulk)
      return yield* Effect.acquireUseRelease(
        tally(carrying, device, 1),
        () =>
          Effect.catch(FilesBulk.serve(remoteFiles, primitives, TransferClaims.of(claims, device), frames), () =>
            giveUp(stream, StreamHeader.Code.Cancelled)
          ),
        () => tally(carrying, device, -1)
      )
    }
    return yield* giveUp(stream, StreamHeader.Code.Unknown)
  })

  /** A device that says where it may be reached directly is told where we may: both try at the same time. */
  const meet = (connection: Connection) =>
    RelayRecord.follow(trail, connection, (event) =>
      event.type === "Candidates" ? Effect.flatMap(reach.direct, connection.offer) : Effect.void
    )

  const serveConnection = Effect.fnUntraced(function* (connection: Connection) {
    const device = connection.credential
    const count = (by: number) =>
      Effect.andThen(
        tally(present, device, by),
        SubscriptionRef.update(connected, (n) => n + by)
      )
    yield* count(1)
    yield* Effect.forkScoped(Effect.ignore(meet(connection)), { startImmediately: true })
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
  const serve = Effect.forever(
    Effect.flatMap(listener.accept, (connection) => FiberSet.run(connections, serveConnection(connection)))
  )
  const relay: Relay = { address: listener.address, control, run: Effect.raceFirst(serve, compromise.run) }
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
