/**
 * A server that shakes hands as ours does, over a real socket, and then lies about files: it answers calls with whatever
 * JSON a test gives, and bulk streams with whatever frames.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as CredentialFile from "../../src/domain/CredentialFile.ts"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import * as StreamHeader from "../../src/domain/StreamHeader.ts"
import * as TransferFrame from "../../src/domain/TransferFrame.ts"
import * as Burn from "../../src/programs/Burn.ts"
import * as ClientIdentity from "../../src/programs/ClientIdentity.ts"
import * as ClientLink from "../../src/programs/ClientLink.ts"
import * as CredentialFiles from "../../src/programs/CredentialFiles.ts"
import * as Relay from "../../src/programs/Relay.ts"
import { take } from "../../src/programs/StreamReader.ts"
import { Audit } from "../../src/services/Audit.ts"
import { Devices } from "../../src/services/Devices.ts"
import * as RemoteFiles from "../../src/services/RemoteFiles.ts"
import { type Connection, Transport, type TransportStream } from "../../src/services/Transport.ts"
import { temporaryFolder } from "./Tiers.ts"

const LOOPBACK = "127.0.0.1"

/** A call's answer: a value as the line carries it, an error, bytes in place of a line again and again, or none ever. */
export type Answer =
  | { readonly value: unknown }
  | { readonly error: unknown }
  | { readonly flood: Uint8Array }
  | "silence"

type Payload = Readonly<Record<string, unknown>>
type Frame = TransferFrame.Frame

export interface Lies {
  readonly call: (tag: string, payload: Payload) => Answer
  /** What is said to a frame of a bulk stream. */
  readonly frame: (frame: Frame) => ReadonlyArray<Frame | Uint8Array>
}

/** One server for all tests of a file; what it says is theirs to change. */
export interface LyingServer {
  readonly folder: string
  /** A client's home that is paired with it. */
  readonly client: string
  lies: Lies
  /** Calls since this was set to 0. */
  calls: number
}

const encoder = new TextEncoder()

const isRecord = (value: unknown): value is Payload => typeof value === "object" && value !== null

const answerOf = (id: unknown, answer: Exclude<Answer, "silence" | { readonly flood: Uint8Array }>): Uint8Array => {
  const exit =
    "value" in answer
      ? { _tag: "Success", value: answer.value }
      : { _tag: "Failure", cause: [{ _tag: "Fail", error: answer.error }] }
  return encoder.encode(`${JSON.stringify({ _tag: "Exit", requestId: id, exit })}\n`)
}

const serveCalls = Effect.fnUntraced(function* (server: LyingServer, stream: TransportStream) {
  let held = ""
  for (;;) {
    for (const chunk of yield* stream.read) held += Buffer.from(chunk).toString()
    const lines = held.split("\n")
    held = lines.pop() ?? ""
    for (const line of lines) {
      const request: unknown = JSON.parse(line)
      if (!isRecord(request) || request._tag !== "Request" || typeof request.tag !== "string") continue
      if (!request.tag.startsWith("Files.")) continue
      server.calls++
      const answer = server.lies.call(request.tag, isRecord(request.payload) ? request.payload : {})
      if (answer === "silence") continue
      if ("flood" in answer) yield* Effect.forever(stream.write(answer.flood))
      else yield* stream.write(answerOf(request.id, answer))
    }
  }
})

const serveFrames = Effect.fnUntraced(function* (server: LyingServer, stream: TransportStream) {
  const frames = new TransferFrame.Frames()
  for (;;) {
    for (const chunk of yield* stream.read) {
      for (const frame of frames.push(chunk) ?? []) {
        for (const said of server.lies.frame(frame)) {
          yield* stream.write(said instanceof Uint8Array ? said : TransferFrame.encode(said))
        }
      }
    }
  }
})

/** Takes every stream of a connection for itself: the real server sees none. */
const usurp = (server: LyingServer, connection: Connection): Connection => ({
  ...connection,
  accept: Effect.scoped(
    Effect.gen(function* () {
      const fibers = yield* FiberSet.make<void>()
      for (;;) {
        const stream = yield* connection.accept
        const serve = Effect.gen(function* () {
          const { head, rest } = yield* take(stream, 1)
          if (head[0] === StreamHeader.SERVER) yield* serveCalls(server, rest)
          if (head[0] !== StreamHeader.FILES) return
          const { rest: frames } = yield* take(rest, 1)
          yield* serveFrames(server, frames)
        })
        yield* FiberSet.run(fibers, Effect.ignore(serve))
      }
    })
  )
})

export const make = Effect.gen(function* () {
  const folder = yield* temporaryFolder
  const paths = HomePaths.server(Path.join(folder, "server"))
  const client = Path.join(folder, "client")
  Fs.mkdirSync(Path.join(folder, "server"), { mode: 0o700 })
  const server: LyingServer = { folder, client, lies: { call: () => "silence", frame: () => [] }, calls: 0 }
  const real = yield* Transport
  const transport = Transport.of({
    ...real,
    listen: (options) =>
      Effect.map(real.listen(options), (listener) => ({
        ...listener,
        accept: Effect.map(listener.accept, (connection) => usurp(server, connection))
      }))
  })
  const bootstrapKey = { id: "0badcafe", secret: Redacted.make("a bootstrap key for a liar") }
  const local = yield* Layer.build(
    Layer.mergeAll(Devices.layer(paths.devices), RemoteFiles.layerMemory({}), Audit.layerMemory)
  )
  const relay = yield* Relay.make({
    paths,
    version: "0.0.0",
    pid: 1,
    serverId: "liar",
    serverName: "Liar",
    bind: { host: LOOPBACK, port: 0 },
    stun: [],
    turn: undefined,
    rendezvous: [],
    portRotationMs: 3_600_000,
    keyRotationMs: 3_600_000,
    plan: Burn.server(paths, { credentials: paths.security, backup: undefined }),
    publicIp: LOOPBACK,
    publicPort: undefined,
    llm: { host: LOOPBACK, port: 9 },
    patience: ClientLink.PATIENCE,
    maxSessions: 100,
    bootstrapKey,
    kdf: { name: "pbkdf2-hmac-sha256", iterations: 100_000 },
    credentialFolder: paths.security,
    backupFolder: undefined,
    validityMs: CredentialFile.VALIDITY_MS,
    rotationMs: CredentialFile.ROTATION_MS,
    cleanupMs: 60_000,
    natTraversal: { stun: [], turn: [], rendezvous: [], timeout: 60 },
    gracePeriodSeconds: 300,
    announce: () => Effect.void
  }).pipe(Effect.provideService(Transport, transport), Effect.provideContext(local))
  yield* Effect.forkScoped(Effect.provideContext(Effect.provideService(relay.run, Transport, transport), local))
  while (!Fs.existsSync(paths.credential)) yield* Effect.sleep("20 millis")
  const file = yield* CredentialFiles.load(paths.credential, bootstrapKey)
  yield* Effect.scoped(
    ClientLink.connect({
      identity: yield* ClientIdentity.make(HomePaths.client(client)),
      pairing: ClientIdentity.pairingOf(file),
      deviceName: "victim",
      patience: ClientLink.PATIENCE,
      timeoutMs: 20_000
    })
  )
  return server
})
