/**
 * Ports and keys that change every few seconds while somebody talks: `node test/soak/Rotation.ts [seconds [seconds between
 * ports [between keys]]]`, 180, 5 and as many by default. All three tiers in this process, real sockets on loopback, real files; a client asks one
 * question after the other and reads one long answer all the while. Prints what came through, and fails when anything was
 * lost, doubled or late.
 */
import * as FileSystem from "node:fs"
import * as os from "node:os"
import path from "node:path"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as CredentialFile from "../../src/domain/CredentialFile.ts"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import * as ConversationsSqlite from "../../src/layers/ConversationsSqlite.ts"
import * as CryptoOpenSsl from "../../src/layers/CryptoOpenSsl.ts"
import * as ResolverNode from "../../src/layers/ResolverNode.ts"
import * as SecureFileStoreNode from "../../src/layers/SecureFileStoreNode.ts"
import * as TransportLive from "../../src/layers/TransportLive.ts"
import * as UdpSocketLinux from "../../src/layers/UdpSocketLinux.ts"
import { ask, type Output } from "../../src/programs/Ask.ts"
import { Assistant } from "../../src/programs/Assistant.ts"
import * as Burn from "../../src/programs/Burn.ts"
import * as ClientIdentity from "../../src/programs/ClientIdentity.ts"
import * as ClientLink from "../../src/programs/ClientLink.ts"
import * as CredentialFiles from "../../src/programs/CredentialFiles.ts"
import * as LlmTier from "../../src/programs/LlmTier.ts"
import * as Relay from "../../src/programs/Relay.ts"
import { Audit } from "../../src/services/Audit.ts"
import { ContextStore } from "../../src/services/ContextStore.ts"
import { Conversations } from "../../src/services/Conversations.ts"
import { Devices } from "../../src/services/Devices.ts"
import { LlmProvider } from "../../src/services/LlmProvider.ts"
import * as RemoteFiles from "../../src/services/RemoteFiles.ts"
import { tierMocks } from "../programs/TierMocks.ts"

const [seconds = 180, interval = 5, keyInterval = interval] = process.argv.slice(2).map(Number)
const HOST = "127.0.0.1"
/** Milliseconds between two pieces of the long answer, and between an answer and the next question. */
const PIECE_MS = 50
const PAUSE_MS = 100
/** Milliseconds without a piece, or for an answer, that nobody should notice. */
const LONGEST_MS = 2000

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}
const uuid = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`
const piece = (n: number): string => `${String(n).padStart(9, "0")}\n`
const done = {
  _tag: "Done",
  usage: { inputTokens: 1, outputTokens: 1 },
  stopReason: "end",
  model: "script-1"
} as const

/** "count N": N numbered lines, one each PIECE_MS; anything else is said back. */
const provider = LlmProvider.layerScripted((request) => {
  const question = request.messages.at(-1)?.text ?? ""
  const count = Number(/^count (\d+)$/.exec(question)?.[1] ?? 0)
  const pieces =
    count === 0
      ? Stream.succeed({ _tag: "Delta", text: `You said: ${question}` } as const)
      : Stream.mapEffect(Stream.range(0, count - 1), (n) =>
          Effect.as(Effect.sleep(PIECE_MS), { _tag: "Delta", text: piece(n) } as const)
        )
  return Stream.concat(pieces, Stream.succeed(done))
})

interface Seen {
  text: string
  restarts: number
  waits: number
  longestMs: number
}

/** Asks, and watches the clock: between any two signs of life of the answer, or from the question to its end. */
const watched = (link: ClientLink.Link, conversation: string, n: number, text: string, seen: Seen) => {
  let last = performance.now()
  return Stream.runForEach(ask(link, { conversation, messageId: uuid(n), text }), (output: Output) =>
    Effect.sync(() => {
      const now = performance.now()
      seen.longestMs = Math.max(seen.longestMs, now - last)
      last = now
      if (output._tag === "Restarted") {
        seen.restarts++
        seen.text = ""
      }
      if (output._tag === "Waiting") seen.waits++
      if (output._tag === "Text") seen.text += output.text
    })
  )
}
const nothing = (): Seen => ({ text: "", restarts: 0, waits: 0, longestMs: 0 })

const program = Effect.gen(function* () {
  const home = yield* Effect.acquireRelease(
    Effect.sync(() => FileSystem.mkdtempSync(path.join(os.tmpdir(), "clawchat-rotation-"))),
    (folder) => Effect.sync(() => FileSystem.rmSync(folder, { recursive: true, force: true }))
  )
  const server = HomePaths.server(home)
  const llm = HomePaths.llm(home)
  const paths = HomePaths.client(path.join(home, "client"))
  const bootstrapKey = { id: "0badcafe", secret: Redacted.make("a bootstrap key for the soak") }
  const conversations = yield* Layer.build(ConversationsSqlite.layerMemory)
  const assistant = Assistant.layer({ historyTokens: 250, limits: { turnMs: 48 * 3600_000 } }).pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        provider,
        ContextStore.layerMemory({ "SOUL.md": "Be exact." }),
        Layer.succeedContext(conversations),
        tierMocks
      )
    )
  )
  const behind = yield* Layer.build(assistant)
  const tier = yield* LlmTier.make({ paths: llm, version: "0.0.0", pid: 2, bind: { host: HOST, port: 0 } }).pipe(
    Effect.provideContext(behind)
  )
  yield* Effect.forkScoped(Effect.provideContext(tier.run, behind))

  const local = yield* Layer.build(
    Layer.mergeAll(Devices.layer(server.devices), RemoteFiles.layerMemory({}), Audit.layerMemory)
  )
  const relay = yield* Relay.make({
    paths: server,
    version: "0.0.0",
    pid: 1,
    serverId: "server-1",
    serverName: "Home",
    bind: { host: HOST, port: 0 },
    stun: [],
    turn: undefined,
    rendezvous: [],
    portRotationMs: interval * 1000,
    keyRotationMs: keyInterval * 1000,
    plan: Burn.server(server, { credentials: server.security, backup: undefined }),
    publicIp: HOST,
    publicPort: undefined,
    llm: tier.address,
    patience: ClientLink.PATIENCE,
    maxSessions: 100,
    bootstrapKey,
    kdf: { name: "pbkdf2-hmac-sha256", iterations: 100_000 },
    credentialFolder: server.security,
    backupFolder: undefined,
    validityMs: CredentialFile.VALIDITY_MS,
    rotationMs: CredentialFile.ROTATION_MS,
    cleanupMs: 60_000,
    natTraversal: { stun: [], turn: [], rendezvous: [], timeout: 60 },
    gracePeriodSeconds: 300,
    announce: () => Effect.void
  }).pipe(Effect.provideContext(local))
  yield* Effect.forkScoped(Effect.provideContext(relay.run, local))
  yield* Effect.sleep(1000)

  const file = yield* CredentialFiles.load(server.credential, bootstrapKey)
  const identity = yield* ClientIdentity.make(paths)
  const link = yield* ClientLink.make({
    identity,
    pairing: ClientIdentity.pairingOf(file),
    deviceName: "soak",
    patience: ClientLink.PATIENCE,
    timeoutMs: 30_000,
    rekeyIntervalMs: keyInterval * 1000
  })
  const { connection } = yield* link.session
  yield* Effect.flatMap(Effect.sleep(2000), () => Effect.void)

  const ports = new Set<number>()
  const look = Effect.gen(function* () {
    ports.add((yield* connection.remote).port)
    yield* Effect.sleep(100)
  })
  const looking = yield* Effect.forkScoped(Effect.forever(look))

  const count = Math.round((seconds * 1000) / PIECE_MS)
  const bytes = nothing()
  const stream = yield* Effect.forkScoped(watched(link, "stream", 0, `count ${count}`, bytes))
  const chat = nothing()
  let asked = 0
  const until = performance.now() + seconds * 1000
  while (performance.now() < until) {
    const question = `question ${++asked}`
    chat.text = ""
    yield* watched(link, "main", asked, question, chat)
    if (chat.text !== `You said: ${question}`) {
      print(`WRONG: ${JSON.stringify(chat.text)} to ${question}`)
      process.exitCode = 1
    }
    yield* Effect.sleep(PAUSE_MS)
  }
  yield* Fiber.join(stream)
  yield* Fiber.interrupt(looking)

  const kept = yield* Effect.provideContext(Conversations, conversations)
  const messages = yield* kept.history({ conversation: "main", limit: 1_000_000 })
  const questions = messages.filter(({ role }) => role === "user").map(({ text }) => text)
  const doubled = questions.length - new Set(questions).size
  const wanted = Array.from({ length: count }, (_, n) => piece(n)).join("")
  const state = yield* link.state
  const same = state._tag === "Connected" && state.session.connection === connection
  const { epoch, lostPackets, receivedPackets, sentPackets, unopened } = yield* connection.stats
  const audit = yield* Effect.provideContext(Audit, local)
  const records = yield* audit.read({ limit: 100_000 })
  // What happens often is put on record together.
  const of = (kind: string): number =>
    records.reduce((sum, record) => sum + (record.kind === kind ? (record.count ?? 1) : 0), 0)
  const longestMs = Math.max(chat.longestMs, bytes.longestMs)
  print(`${seconds} s, ports each ${interval} s, keys each ${keyInterval} s`)
  print(
    `chat: ${asked} sent, ${questions.length} received, ${doubled} doubled, longest pause ${chat.longestMs.toFixed(0)} ms`
  )
  print(
    `stream: ${wanted.length} bytes sent, ${bytes.text.length} received, ${bytes.text === wanted ? "identical" : "DIFFERENT"}, ` +
      `${bytes.restarts + chat.restarts} restarts, ${bytes.waits + chat.waits} waits, longest pause ${bytes.longestMs.toFixed(0)} ms`
  )
  print(
    `ports used by the client: ${ports.size}, opened ${of("port.opened")}, closed ${of("port.closed")}, kept ${of("port.kept")}`
  )
  print(`keys: epoch ${epoch}; one session: ${same ? "yes" : "NO"} (${of("session.opened")} opened)`)
  print(`packets: ${sentPackets} sent, ${receivedPackets} received, ${lostPackets} lost, ${unopened} not opened`)
  const good = doubled === 0 && questions.length === asked && bytes.text === wanted && longestMs < LONGEST_MS && same
  const changes = Math.floor(seconds / interval) - 2
  const rekeys = Math.floor(seconds / keyInterval) * 0.8 - 2
  if (!good || ports.size < changes || epoch < rekeys) {
    print("FAILED")
    process.exitCode = 1
  }
})

const network = TransportLive.layer.pipe(
  Layer.provideMerge(UdpSocketLinux.layer),
  Layer.provideMerge(Layer.mergeAll(CryptoOpenSsl.layer, ResolverNode.layer, SecureFileStoreNode.layer))
)
await Effect.runPromise(
  Effect.scoped(program).pipe(Effect.provide(network), Effect.provide(Logger.layer([])), Effect.orDie)
)
