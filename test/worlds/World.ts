/**
 * Whole tiers in one simulated network: a server and its llm tier on one host, clients anywhere. Only the foundations are
 * replaced (sockets, clock, disks, model, entropy); the programs are those that run for real. A seed decides everything.
 *
 * Time moves by itself: `run` winds the clock while the scenario runs in a fiber that the clock woke, so that all that
 * follows from one instant has happened before the next one begins.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type { ChatError } from "../../src/domain/ChatRpc.ts"
import * as CredentialFile from "../../src/domain/CredentialFile.ts"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import type { Address } from "../../src/domain/protocol/Address.ts"
import { PORT_PERIOD_MS, REKEY_INTERVAL_MS } from "../../src/domain/protocol/Constants.ts"
import type { Primitives } from "../../src/domain/protocol/Primitives.ts"
import type { Pairing } from "../../src/domain/RendezvousLine.ts"
import type { ServerName } from "../../src/domain/ServerName.ts"
import { segmentOf } from "../../src/layers/Bursts.ts"
import * as ConversationsSqlite from "../../src/layers/ConversationsSqlite.ts"
import type { HostLink } from "../../src/layers/SimulatedHost.ts"
import type { kinds } from "../../src/layers/SimulatedNat.ts"
import * as SimulatedNetwork from "../../src/layers/SimulatedNetwork.ts"
import * as TransportLive from "../../src/layers/TransportLive.ts"
import { ask, type Output } from "../../src/programs/Ask.ts"
import { Assistant } from "../../src/programs/Assistant.ts"
import * as Burn from "../../src/programs/Burn.ts"
import * as ClientIdentity from "../../src/programs/ClientIdentity.ts"
import * as ClientLink from "../../src/programs/ClientLink.ts"
import { Burned } from "../../src/programs/Compromise.ts"
import * as CredentialFiles from "../../src/programs/CredentialFiles.ts"
import * as LlmTier from "../../src/programs/LlmTier.ts"
import * as Relay from "../../src/programs/Relay.ts"
import * as Rendezvous from "../../src/programs/Rendezvous.ts"
import * as ServerCompromise from "../../src/programs/ServerCompromise.ts"
import { Audit } from "../../src/services/Audit.ts"
import { ContextStore } from "../../src/services/ContextStore.ts"
import { Conversations, ConversationsError } from "../../src/services/Conversations.ts"
import { Crypto } from "../../src/services/Crypto.ts"
import { Devices } from "../../src/services/Devices.ts"
import type { FileTree } from "../../src/services/FileTree.ts"
import { type LlmError, type LlmEvent, LlmProvider, type LlmRequest } from "../../src/services/LlmProvider.ts"
import * as MemoryFileTree from "../../src/services/MemoryFileTree.ts"
import type { MemoryNode } from "../../src/services/MemoryNodes.ts"
import { RemoteFiles } from "../../src/services/RemoteFiles.ts"
import * as Resolver from "../../src/services/Resolver.ts"
import { makeMemory, SecureFileError, SecureFileStore } from "../../src/services/SecureFileStore.ts"
import { type Connection, type Listener, type Patience, Transport } from "../../src/services/Transport.ts"
import { type BoundSocket, type Burst, UdpSocket } from "../../src/services/UdpSocket.ts"
import { key, quickCrypto } from "../programs/CredentialSupport.ts"
import { tierMocks } from "../programs/TierMocks.ts"
import { HostClock } from "./HostClock.ts"

/** When worlds begin: a time at which a wall clock is no small number. */
export const START = Date.UTC(2026, 2, 1, 12, 0, 0)
/** Where the server is. */
export const SERVER = "198.51.100.10"
/** Where a rendezvous is. */
const RELAY = "198.51.100.20"
const HOME = "/home"
const LLM_PORT = 55_557

/** 10 % loss, jitter, reordering, duplicates, damage: in each direction. */
export const ROUGH: HostLink = {
  delayMs: 20,
  jitterMs: 10,
  loss: 0.1,
  reorder: { probability: 0.05, byMs: 30 },
  duplicate: 0.05,
  corrupt: 0.01
}

export interface LogLine {
  /** Milliseconds since the world began. */
  readonly at: number
  readonly tier: string
  readonly level: string
  readonly message: string
}

export type Script = (request: LlmRequest, index: number) => Stream.Stream<LlmEvent, LlmError>

export interface WorldOptions {
  readonly seed: number
  /** What the model says; by default `answerTo`. */
  readonly script?: Script
  readonly serverLink?: HostLink
  readonly capture?: boolean
  /** Milliseconds of virtual time after which a world counts as stuck. Default one hour. */
  readonly limitMs?: number
  /** Milliseconds that the clock is wound at a time. Default 1000. */
  readonly stepMs?: number
  /** Default: that of a real server. */
  readonly patience?: Patience
  readonly validityMs?: number
  /** How long the server keeps a port, and sessions their keys; defaults those of a real server. */
  readonly portRotationMs?: number
  readonly keyRotationMs?: number
  readonly stun?: ReadonlyArray<ServerName>
  readonly rendezvous?: ReadonlyArray<Pairing>
  /** A rendezvous that the server and all its devices know. */
  readonly relay?: boolean
  /** A translator that the server is behind; its outside address is the server's. */
  readonly serverNat?: keyof typeof kinds
  /** Of the server; 0, as by default, for one that moves. */
  readonly port?: number
  /** What becomes of a datagram that a tier sends: milliseconds after which each copy leaves, by default one at once. */
  readonly fate?: (tier: string, to: Address, bytes: Uint8Array) => ReadonlyArray<number>
  /** Told of each datagram that a tier takes in on a port of its own. */
  readonly heard?: (tier: string, port: number, bytes: Uint8Array) => void
  /** What lies below the server's base path when the world begins. */
  readonly files?: Readonly<Record<string, MemoryNode>>
  /** What a process does its cryptography with. */
  readonly primitives?: (tier: string, primitives: Primitives) => Primitives
}

export interface ClientOptions {
  readonly name?: string
  readonly address?: string
  readonly nat?: SimulatedNetwork.Nat
  readonly link?: HostLink
}

/** A program and its lives, one after another, on one disk. */
export interface Tier<A, I = void> {
  /** Begins a life; a start that fails is a failure of the world. */
  readonly start: (input: I) => Effect.Effect<A>
  readonly stop: Effect.Effect<void>
  /** A power cut: nothing is sent, written or logged any more. */
  readonly kill: Effect.Effect<void>
  /** What `start` gave; asking for a tier that does not run is a bug of the scenario. */
  readonly made: Effect.Effect<A>
}

export interface Reply {
  readonly text: string
  readonly outputs: ReadonlyArray<Output>
  /** Milliseconds since the world began, of each output. */
  readonly at: ReadonlyArray<number>
}

export interface Client {
  readonly name: string
  readonly host: SimulatedNetwork.Host
  readonly clock: HostClock
  readonly disk: SecureFileStore["Service"]
  readonly paths: HomePaths.ClientPaths
  /** Started with a pairing it comes with a file. */
  readonly tier: Tier<ClientLink.Link, ClientIdentity.Pairing | undefined>
  /** The nth question; the same `n` is the same question. What was shown, as it stands at the end. */
  readonly ask: (n: number, text?: string, conversation?: string) => Effect.Effect<Reply, ChatError>
}

export interface World {
  readonly network: SimulatedNetwork.Network
  readonly serverHost: SimulatedNetwork.Host
  readonly serverPaths: HomePaths.ServerPaths
  /** Of server and llm tier, which live on one home. */
  readonly disk: SecureFileStore["Service"]
  readonly server: Tier<Relay.Relay>
  readonly llm: Tier<LlmTier.LlmTier>
  readonly client: (options?: ClientOptions) => Effect.Effect<Client>
  /** What the `.sec` file says that lies there now. */
  readonly pairing: Effect.Effect<ClientIdentity.Pairing, CredentialFiles.CredentialFileError>
  /** Starts both tiers, and a client that enrols; all are connected. */
  readonly paired: (options?: ClientOptions) => Effect.Effect<Client>
  readonly conversations: Conversations["Service"]
  /** What lies below the server's base path, whichever life of it. */
  readonly files: FileTree
  readonly log: ReadonlyArray<LogLine>
  /** Questions that the model was asked, in order: the last message of each request. */
  readonly asked: ReadonlyArray<string>
  /** Every connection that any tier has had, and every listener. */
  readonly connections: ReadonlyArray<{
    readonly tier: string
    readonly life: { readonly over: boolean }
    readonly connection: Connection
  }>
  readonly listeners: ReadonlyArray<{
    readonly tier: string
    readonly life: { readonly over: boolean }
    readonly listener: Listener
  }>
  /** Milliseconds since the world began. */
  readonly now: Effect.Effect<number>
}

/** What the model says to a question, in a few pieces. */
export const answerTo = (question: string): string =>
  `You said "${question}". ${"The line holds, whatever it is made of. ".repeat(2)}That was all about ${question}.`

/** Says `answerTo` in pieces of 100 characters, one each 10 ms. */
export const echo: Script = (request) => {
  const text = answerTo(request.messages.at(-1)?.text ?? "")
  const pieces = text.match(/.{1,100}/gs) ?? []
  return Stream.fromIterable(pieces).pipe(
    Stream.mapEffect((piece) => Effect.as(Effect.sleep(10), { _tag: "Delta", text: piece } as const)),
    Stream.concat(
      Stream.succeed({
        _tag: "Done",
        usage: { inputTokens: 7, outputTokens: pieces.length },
        stopReason: "end",
        model: "script-1"
      } as const)
    )
  )
}

/** A process's hold on the world outside; once `alive` is false nothing leaves it. */
class Life {
  alive = true
  /** Stopped or killed: its sockets and timers are gone, and what it held in memory counts no more. */
  over = false
}

type Fate = (to: Address, bytes: Uint8Array) => ReadonlyArray<number>

/** What stands between a process and its sockets. */
interface Meddler {
  readonly fate: Fate | undefined
  readonly heard: ((port: number, bytes: Uint8Array) => void) | undefined
}

const mortalSockets = (life: Life, host: SimulatedNetwork.Host, { fate, heard }: Meddler): Layer.Layer<UdpSocket> =>
  Layer.effect(
    UdpSocket,
    Effect.gen(function* () {
      const sockets = yield* UdpSocket
      const later = yield* FiberSet.make()
      /** One datagram at a time; copies that wait are lost with their sender. */
      const meddling =
        (send: BoundSocket["send"], fate: Fate): BoundSocket["send"] =>
        (batch) =>
          Effect.forEach(
            batch.flatMap(parcels),
            (parcel) =>
              Effect.forEach(
                fate(parcel.remote, parcel.bytes),
                (ms) =>
                  ms === 0 ? send([parcel]) : FiberSet.run(later, Effect.andThen(Effect.sleep(ms), send([parcel]))),
                { discard: true }
              ),
            { discard: true }
          )
      return {
        implementation: sockets.implementation,
        addresses: sockets.addresses,
        bind: (options) =>
          Effect.map(sockets.bind(options), (socket) => {
            const send = fate === undefined ? socket.send : meddling(socket.send, fate)
            const receive = Effect.tap(socket.receive, (batch) =>
              // A copy: packets are opened where they lie.
              Effect.sync(() => {
                for (const { bytes } of batch) heard?.(socket.address.port, bytes.slice())
              })
            )
            return {
              ...socket,
              receive: heard === undefined ? socket.receive : receive,
              send: (batch) => Effect.suspend(() => (life.alive ? send(batch) : Effect.void))
            }
          })
      }
    })
  ).pipe(Layer.provide(host.layer))

/** The datagrams of a burst, each in a buffer of its own. */
const parcels = (burst: Burst): ReadonlyArray<Burst> => {
  const { bytes, remote } = burst
  const segment = segmentOf(burst)
  const all: Array<Burst> = []
  for (let at = 0; at < bytes.length; at += segment) all.push({ bytes: bytes.slice(at, at + segment), remote })
  return all
}

const mortalDisk = (life: Life, disk: SecureFileStore["Service"]): Layer.Layer<SecureFileStore> => {
  const guard = <A>(path: string, effect: Effect.Effect<A, SecureFileError>): Effect.Effect<A, SecureFileError> =>
    Effect.suspend(() =>
      life.alive ? effect : Effect.fail(new SecureFileError({ reason: "Io", path, message: `${path}: killed` }))
    )
  return Layer.succeed(SecureFileStore, {
    ...disk,
    write: (path, bytes) => guard(path, disk.write(path, bytes)),
    create: (path, bytes) => guard(path, disk.create(path, bytes)),
    append: (path, bytes) => guard(path, disk.append(path, bytes)),
    burn: (path) => guard(path, disk.burn(path))
  })
}

const mortalConversations = (life: Life, kept: Conversations["Service"]): Layer.Layer<Conversations> => {
  const guard = <A>(effect: Effect.Effect<A, ConversationsError>): Effect.Effect<A, ConversationsError> =>
    Effect.suspend(() =>
      life.alive ? effect : Effect.fail(new ConversationsError({ reason: "Io", message: "killed" }))
    )
  return Layer.succeed(Conversations, {
    ...kept,
    ask: (question) => guard(kept.ask(question)),
    beginReply: (reply) => guard(kept.beginReply(reply)),
    endReply: (id, end) => guard(kept.endReply(id, end)),
    sweep: guard(kept.sweep)
  })
}

/** The steady clock counts from the world's beginning, so that it is never mistaken for the time of day. */
const worldClock = (clock: Clock.Clock): Clock.Clock => {
  const origin = clock.monotonicTimeNanosUnsafe()
  return {
    ...clock,
    monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe() - origin,
    monotonicTimeNanos: Effect.sync(() => clock.monotonicTimeNanosUnsafe() - origin)
  }
}

const uuid = (client: number, n: number): string =>
  `00000000-0000-4000-${(0x8000 + client).toString(16)}-${String(n).padStart(12, "0")}`

/** Starts a rendezvous on a host of its own; what the server is paired with. */
const relayOn = Effect.fnUntraced(function* (network: SimulatedNetwork.Network) {
  const host = network.host({ address: RELAY, link: { delayMs: 10 } })
  const relay = yield* Rendezvous.make({
    paths: HomePaths.rendezvous("/relay"),
    version: "0.0.0",
    pid: 3,
    bind: { host: "0.0.0.0", port: 0 }
  }).pipe(
    Effect.provide(Layer.merge(host.layer, quickCrypto(`${network.seed} relay`))),
    Effect.provideService(SecureFileStore, yield* makeMemory),
    Effect.orDie
  )
  yield* Effect.forkScoped(relay.run)
  const pairing: Pairing = { relay: { host: RELAY, port: relay.address.port }, key: relay.key }
  return pairing
})

const make = Effect.fnUntraced(function* (
  network: SimulatedNetwork.Network,
  kept: Conversations["Service"],
  options: WorldOptions
) {
  const whole = yield* Effect.scope
  const { fate, heard } = options
  const clock = yield* Clock.clockWith(Effect.succeed)
  const disk = yield* makeMemory
  const serverLink = options.serverLink ?? { delayMs: 5 }
  const serverHost =
    options.serverNat === undefined
      ? network.host({ address: SERVER, link: serverLink })
      : network.host({
          address: "10.1.0.2",
          link: serverLink,
          nat: network.nat({ address: SERVER, kind: options.serverNat })
        })
  const serverPaths = HomePaths.server(HOME)
  const llmPaths = HomePaths.llm(HOME)
  const log: Array<LogLine> = []
  const asked: Array<string> = []
  const connections: Array<World["connections"][number]> = []
  const listeners: Array<World["listeners"][number]> = []
  const bootstrapKey = key()
  const pairings = [...(options.rendezvous ?? []), ...(options.relay === true ? [yield* relayOn(network)] : [])]
  const now = Effect.map(Clock.currentTimeMillis, (at) => at - START)

  const note = (tier: string, life: Life) =>
    Logger.layer([
      Logger.make(({ date, logLevel, message }) => {
        if (!life.alive) return
        const text = Array.isArray(message) ? message.join(" ") : String(message)
        log.push({ at: date.getTime() - START, tier, level: logLevel, message: text })
      })
    ])

  const cryptoOf = (seed: string, tier: string): Layer.Layer<Crypto> => {
    const quick = quickCrypto(seed)
    if (options.primitives === undefined) return quick
    const made = options.primitives
    return Layer.effect(
      Crypto,
      Effect.map(Effect.provide(Crypto, quick), (crypto) => ({ ...crypto, primitives: made(tier, crypto.primitives) }))
    )
  }

  /** The services of one life of one process. */
  const services = (
    tier: string,
    life: Life,
    lives: number,
    host: SimulatedNetwork.Host,
    files: SecureFileStore["Service"]
  ) => {
    const observed = Layer.effect(
      Transport,
      Effect.map(Transport, (transport) => ({
        listen: (asked) =>
          Effect.map(transport.listen(asked), (listener) => {
            listeners.push({ tier, life, listener })
            const accept = Effect.tap(listener.accept, (connection) =>
              Effect.sync(() => connections.push({ tier, life, connection }))
            )
            return { ...listener, accept }
          }),
        connect: (asked) =>
          Effect.tap(transport.connect(asked), (connection) =>
            Effect.sync(() => connections.push({ tier, life, connection }))
          )
      }))
    ).pipe(Layer.provide(TransportLive.layer))
    return observed.pipe(
      Layer.provideMerge(
        Layer.mergeAll(
          cryptoOf(`${network.seed} ${tier} ${lives}`, tier),
          mortalDisk(life, files),
          Resolver.layerMemory({}),
          mortalSockets(life, host, {
            fate: fate === undefined ? undefined : (to, bytes) => fate(tier, to, bytes),
            heard: heard === undefined ? undefined : (port, bytes) => heard(tier, port, bytes)
          }),
          note(tier, life)
        )
      )
    )
  }

  type Base = Transport | Crypto | Resolver.Resolver | SecureFileStore | UdpSocket

  const tierOf = <A, E, I = void>(
    name: string,
    host: SimulatedNetwork.Host,
    files: SecureFileStore["Service"],
    program: (life: Life, input: I) => Effect.Effect<A, E, Base | Scope.Scope>,
    time: Clock.Clock = clock
  ): Tier<A, I> => {
    let lives = 0
    let current: { readonly life: Life; readonly scope: Scope.Closeable; readonly made: A } | undefined
    const end = (alive: boolean) =>
      Effect.suspend(() => {
        const ending = current
        if (ending === undefined) return Effect.void
        current = undefined
        ending.life.alive = alive
        ending.life.over = true
        return Scope.close(ending.scope, Exit.void)
      })
    const start = Effect.fnUntraced(function* (input: I) {
      yield* end(true)
      const life = new Life()
      const scope = yield* Scope.fork(whole)
      const base = services(name, life, ++lives, host, files)
      const made = yield* Effect.gen(function* () {
        const context = yield* Layer.buildWithScope(Layer.fresh(base), scope)
        return yield* program(life, input).pipe(Scope.provide(scope), Effect.provideContext(context), Effect.orDie)
      }).pipe(Effect.provideService(Clock.Clock, time))
      current = { life, scope, made }
      return made
    })
    const made = Effect.suspend(() =>
      current === undefined ? Effect.die(new Error(`${name} does not run`)) : Effect.succeed(current.made)
    )
    return { start, stop: end(true), kill: end(false), made }
  }

  /** A process that burnt its keys ends, and its parent starts another. */
  const reborn = <E>(run: Effect.Effect<never, E | Burned>, start: Effect.Effect<unknown>) =>
    Effect.forkScoped(
      Effect.catchIf(
        run,
        (error) => error instanceof Burned,
        () => Effect.forkIn(start, whole)
      )
    )

  const files = MemoryFileTree.make(options.files ?? {})
  const plan = Burn.server(serverPaths, { credentials: serverPaths.security, backup: undefined })
  const server: World["server"] = tierOf("server", serverHost, disk, () =>
    Effect.gen(function* () {
      yield* ServerCompromise.prepare(plan, serverPaths, llmPaths)
      const local = Layer.mergeAll(
        Devices.layer(serverPaths.devices),
        Layer.succeed(RemoteFiles, files),
        Audit.layerMemory
      )
      const context = yield* Layer.build(Layer.fresh(local))
      const relay = yield* Effect.provideContext(
        Relay.make({
          paths: serverPaths,
          version: "0.0.0",
          pid: 1,
          serverId: "server-1",
          serverName: "Home",
          bind: { host: "0.0.0.0", port: options.port ?? 0 },
          stun: options.stun ?? [],
          turn: undefined,
          rendezvous: pairings,
          portRotationMs: options.portRotationMs ?? PORT_PERIOD_MS,
          keyRotationMs: options.keyRotationMs ?? REKEY_INTERVAL_MS,
          plan,
          publicIp: SERVER,
          publicPort: undefined,
          llm: { host: "127.0.0.1", port: LLM_PORT },
          patience: options.patience ?? { keepAliveMs: 15_000, deadAfterMs: 15_000, idleTimeoutMs: 60_000 },
          maxSessions: 1024,
          bootstrapKey,
          kdf: undefined,
          credentialFolder: serverPaths.security,
          backupFolder: undefined,
          validityMs: options.validityMs ?? CredentialFile.VALIDITY_MS,
          rotationMs: CredentialFile.ROTATION_MS,
          cleanupMs: 60_000,
          natTraversal: { stun: [], turn: [], rendezvous: [], timeout: 60 },
          gracePeriodSeconds: 300,
          announce: (line) => Effect.logInfo(line)
        }),
        context
      )
      yield* reborn(
        Effect.provideContext(relay.run, context),
        Effect.suspend(() => server.start())
      )
      return relay
    })
  )

  const script = options.script ?? echo
  const llm: World["llm"] = tierOf("llm", serverHost, disk, (life) =>
    Effect.gen(function* () {
      const provider = LlmProvider.layerScripted((request, index) => {
        asked.push(request.messages.at(-1)?.text ?? "")
        return script(request, index)
      })
      // A short memory: what is remembered of a conversation is not what these tests are about.
      const local = Assistant.layer({ historyTokens: 250, limits: { turnMs: 48 * 3600_000 } }).pipe(
        Layer.provideMerge(
          Layer.mergeAll(
            provider,
            ContextStore.layerMemory({ "SOUL.md": "Be exact." }),
            mortalConversations(life, kept),
            tierMocks
          )
        )
      )
      const context = yield* Layer.build(Layer.fresh(local))
      const bind = { host: "127.0.0.1", port: LLM_PORT }
      const tier = yield* Effect.provideContext(
        LlmTier.make({ paths: llmPaths, version: "0.0.0", pid: 2, bind }),
        context
      )
      yield* reborn(
        tier.run,
        Effect.suspend(() => llm.start())
      )
      return tier
    })
  )

  const pairing = CredentialFiles.load(serverPaths.credential, bootstrapKey).pipe(
    Effect.map(ClientIdentity.pairingOf),
    Effect.provide(Layer.mergeAll(Layer.succeed(SecureFileStore, disk), quickCrypto("reader")))
  )

  let clients = 0
  const client: World["client"] = Effect.fnUntraced(function* (given = {}) {
    const index = clients++
    const name = given.name ?? `client-${index}`
    const address = given.address ?? (given.nat === undefined ? `192.0.2.${index + 1}` : `10.0.0.${index + 2}`)
    const nat = given.nat === undefined ? {} : { nat: given.nat }
    const host = network.host({ address, link: given.link ?? { delayMs: 20 }, ...nat })
    const files = yield* makeMemory
    const paths = HomePaths.client(HOME)
    const hostClock = new HostClock(clock)
    const tier = tierOf(
      name,
      host,
      files,
      Effect.fnUntraced(function* (_: Life, pairing: ClientIdentity.Pairing | undefined) {
        const identity = yield* ClientIdentity.make(paths)
        const { PATIENCE: patience } = ClientLink
        const rekeyIntervalMs = options.keyRotationMs
        return yield* ClientLink.make({
          identity,
          pairing,
          deviceName: name,
          patience,
          timeoutMs: 30_000,
          rekeyIntervalMs
        })
      }),
      hostClock.clock
    )
    const questionOf: Client["ask"] = Effect.fnUntraced(function* (
      n,
      text = `question ${n} of ${name}`,
      conversation = "main"
    ) {
      const link = yield* tier.made
      let shown = ""
      const outputs: Array<Output> = []
      const at: Array<number> = []
      const question = { conversation, messageId: uuid(index, n), text }
      yield* Stream.runForEach(ask(link, question), (output) =>
        Effect.map(now, (time) => {
          if (output._tag === "Restarted") shown = ""
          if (output._tag === "Text") shown += output.text
          outputs.push(output)
          at.push(time)
        })
      )
      return { text: shown, outputs, at } satisfies Reply
    })
    return { name, host, clock: hostClock, disk: files, paths, tier, ask: questionOf } satisfies Client
  })

  const paired: World["paired"] = Effect.fnUntraced(function* (given) {
    yield* server.start()
    yield* llm.start()
    const made = yield* client(given)
    // The server writes its first file once it listens, and knows where else it can be reached.
    yield* Effect.sleep(pairings.length === 0 ? 100 : 6000)
    const link = yield* Effect.flatMap(Effect.orDie(pairing), made.tier.start)
    yield* link.session
    const relay = yield* server.made
    yield* relay.control.llm.pipe(
      Stream.takeUntil(({ connected }) => connected),
      Stream.runDrain
    )
    return made
  })

  return {
    network,
    serverHost,
    serverPaths,
    disk,
    server,
    llm,
    client,
    pairing,
    paired,
    conversations: kept,
    files,
    log,
    asked,
    connections,
    listeners,
    now
  } satisfies World
})

/** Runs a scenario in a world of its own. When it fails, the cause's last line names the seed that replays it. */
export const run = <A, E>(options: WorldOptions, scenario: (world: World) => Effect.Effect<A, E, Scope.Scope>) =>
  SimulatedNetwork.world(
    { seed: options.seed, capture: options.capture ?? false },
    Effect.fnUntraced(function* (network) {
      // Opened before time moves: the database's module is loaded by the host.
      const kept = Context.get(yield* Layer.build(Layer.fresh(ConversationsSqlite.layerMemory)), Conversations)
      yield* TestClock.setTime(START)
      const clock = worldClock(yield* Clock.clockWith(Effect.succeed))
      const fiber = yield* Effect.sleep(1).pipe(
        Effect.andThen(make(network, kept, options)),
        Effect.flatMap(scenario),
        Effect.scoped,
        Effect.provideService(Clock.Clock, clock),
        Effect.forkChild
      )
      const { limitMs = 3_600_000, stepMs = 1000 } = options
      for (let wound = 0; fiber.pollUnsafe() === undefined; wound += stepMs) {
        if (wound >= limitMs) return yield* Effect.die(new Error(`the world is stuck after ${wound} ms of its time`))
        yield* TestClock.adjust(stepMs)
      }
      return yield* Fiber.join(fiber)
    })
  )

/** What is wrong with the transcript of questions `from` to `to` of a client: each must stand there once, answered, in order. */
export const transcriptFaults = Effect.fnUntraced(function* (world: World, questions: ReadonlyArray<string>) {
  const messages = yield* world.conversations.history({ conversation: "main", limit: 1_000_000 })
  const found = messages.map(({ role, seq, status, text }) => `${seq} ${role} ${status} ${text}`)
  const wanted = questions.flatMap((question, i) => [
    `${2 * i} user complete ${question}`,
    `${2 * i + 1} assistant complete ${answerTo(question)}`
  ])
  if (found.length !== wanted.length) return [`${found.length} messages instead of ${wanted.length}`, ...found]
  return found.filter((line, i) => line !== wanted[i])
})

/** Streams that are not over, of every connection of tiers that run: `tier: streams`. */
export const openStreams = Effect.fnUntraced(function* (world: World) {
  const all: Array<string> = []
  // A server's comes first, whoever of both heard first that they are connected.
  const connections = [...world.connections].sort((a, b) => Number(b.tier === "server") - Number(a.tier === "server"))
  for (const { connection, life, tier } of connections) {
    const { openStreams } = yield* connection.stats
    if (!life.over && openStreams > 0) all.push(`${tier}: ${openStreams}`)
  }
  return all
})

/** Sessions that the listeners of tiers that run hold, half-open and ending ones included: `tier: sessions`. */
export const sessions = Effect.fnUntraced(function* (world: World) {
  const all: Array<string> = []
  for (const { life, listener, tier } of world.listeners)
    if (!life.over) all.push(`${tier}: ${yield* listener.sessions}`)
  return all
})
