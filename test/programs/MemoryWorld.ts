/**
 * A server and an llm tier in memory, behind the real ClientLink: streams are pairs of queues, the procedures are served
 * by the real RpcStream, and a test decides who is there and what the assistant says.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { ChatError, type ChatEvent, type ChatMessage, ChatRpc, type Decision } from "../../src/domain/ChatRpc.ts"
import { ControlError, ControlRpc } from "../../src/domain/ControlRpc.ts"
import type { Run } from "../../src/domain/CronJob.ts"
import * as CronRpc from "../../src/domain/CronRpc.ts"
import { FilesRpc } from "../../src/domain/FilesRpc.ts"
import type { Attachment } from "../../src/domain/Llm.ts"
import * as MemoryRpc from "../../src/domain/MemoryRpc.ts"
import type { CloseReason } from "../../src/domain/protocol/CloseCode.ts"
import { NO_STATS } from "../../src/domain/protocol/SessionTypes.ts"
import * as StreamHeader from "../../src/domain/StreamHeader.ts"
import { UsageRpc } from "../../src/domain/UsageRpc.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as Alarms from "../../src/programs/Alarms.ts"
import type { ClientIdentity } from "../../src/programs/ClientIdentity.ts"
import * as ClientLink from "../../src/programs/ClientLink.ts"
import * as Files from "../../src/programs/Files.ts"
import * as RpcStream from "../../src/programs/RpcStream.ts"
import * as SealedTier from "../../src/programs/SealedTier.ts"
import { take } from "../../src/programs/StreamReader.ts"
import * as RemoteFiles from "../../src/services/RemoteFiles.ts"
import * as Resolver from "../../src/services/Resolver.ts"
import { layerMemory } from "../../src/services/SecureFileStore.ts"
import { type Connection, Transport, TransportError, type TransportStream } from "../../src/services/Transport.ts"
import { NO_WORDS } from "./FakeListener.ts"

export interface Question {
  readonly conversation: string
  readonly messageId: string
  readonly text: string
  readonly attachments?: ReadonlyArray<Attachment>
}

/** Pauses are neither longer nor shorter than they should be. */
const STEADY = { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => 0.5 }

export const started: ChatEvent = { _tag: "Started", replyId: "r", model: "script-1", provider: "scripted" }
export const delta = (text: string): ChatEvent => ({ _tag: "Delta", text })
export const done: ChatEvent = { _tag: "Done", usage: { inputTokens: 3, outputTokens: 5 }, stopReason: "end" }

/** A whole answer in these pieces. */
export const says = (...parts: ReadonlyArray<string>): Stream.Stream<ChatEvent> =>
  Stream.fromIterable([started, ...parts.map(delta), done])

type Fault = TransportError | Cause.Done

const failed = (reason: "Reset" | "Stopped" | "Closed", code?: number) =>
  new TransportError({ reason, message: `stream ${reason}`, ...(code === undefined ? {} : { code }) })

/** Two ends of one stream. */
const makePair = Effect.gen(function* () {
  const there = yield* Queue.unbounded<Uint8Array, Fault>()
  const back = yield* Queue.unbounded<Uint8Array, Fault>()
  const stopped = new Map<Queue.Queue<Uint8Array, Fault>, TransportError>()
  const end = (out: Queue.Queue<Uint8Array, Fault>, into: Queue.Queue<Uint8Array, Fault>): TransportStream => ({
    id: 0,
    read: Queue.takeAll(into),
    write: (bytes) =>
      Effect.suspend(() => {
        const error = stopped.get(out)
        return error === undefined ? Effect.asVoid(Queue.offer(out, bytes)) : Effect.fail(error)
      }),
    finish: Effect.asVoid(Queue.end(out)),
    reset: (code) => Effect.asVoid(Queue.fail(out, failed("Reset", code))),
    stop: (code) =>
      Effect.sync(() => {
        if (!stopped.has(into)) stopped.set(into, failed("Stopped", code))
      }),
    setPriority: () => Effect.void
  })
  const cut = Effect.forEach(
    [back, there],
    (queue) => {
      stopped.set(queue, failed("Closed"))
      return Queue.fail(queue, failed("Closed"))
    },
    { discard: true }
  )
  return { ours: end(there, back), theirs: end(back, there), cut }
})

const unused = Effect.die(new Error("not used here"))

const pairOf = (byte: number) => CryptoNode.primitives.keyPair(new Uint8Array(32).fill(byte))
const tierIdentity = pairOf(2)

const identity: ClientIdentity = {
  keyPair: pairOf(1),
  status: Effect.succeed({ _tag: "Unpaired" }),
  server: () =>
    Effect.succeed({
      version: 1,
      serverId: "s",
      serverName: "home",
      serverKey: pairOf(3).publicKey,
      credentialId: new Uint8Array(16),
      psk: new Uint8Array(32),
      portSeed: new Uint8Array(32),
      llmKey: tierIdentity.publicKey,
      endpoints: [],
      natTraversal: { stun: [], turn: [], rendezvous: [], timeout: 60 }
    }),
  invitations: Effect.succeed([
    {
      key: "k",
      id: new Uint8Array(16),
      psk: new Uint8Array(32),
      slot: undefined,
      serverKey: new Uint8Array(32),
      endpoints: [],
      pairing: undefined,
      natTraversal: { stun: [], turn: [], rendezvous: [], timeout: 60 },
      relayed: []
    }
  ]),
  persist: () => unused,
  confirm: () => Effect.void,
  update: () => unused,
  last: Effect.succeed({ addresses: [], skewMs: 0, hints: {} }),
  remember: () => Effect.void,
  forget: () => unused,
  burn: () => unused,
  burnt: Effect.never
}

export interface World {
  readonly link: ClientLink.Link
  /** Loses the connection; a new one is made after half a second, while the server listens. */
  readonly cut: Effect.Effect<void>
  readonly listen: (on: boolean) => Effect.Effect<void>
  readonly tier: (on: boolean) => Effect.Effect<void>
  /** Questions that reached the assistant, in order. */
  readonly asked: () => ReadonlyArray<Question>
  /** Answers that their reader has left. */
  readonly cancelled: () => number
  /** Answers that somebody stopped: the ids of their questions. */
  readonly stopped: () => ReadonlyArray<string>
  /** Decisions on calls, in order. */
  readonly decided: () => ReadonlyArray<readonly [id: string, decision: Decision]>
  /** Results of cron runs that a client has shown. */
  readonly acknowledged: () => ReadonlyArray<number>
  /** Streams for the llm tier that are open. */
  readonly chats: () => number
  /** Ends all streams for the llm tier with this code, or in good order. */
  readonly endChats: (code: number | undefined) => Effect.Effect<void>
  /** Ends them below the seal, as only somebody between could. */
  readonly cutChats: Effect.Effect<void>
  /** Writes a line to the client as if the llm tier had; `ID` in it stands for the id of the last request. */
  readonly inject: (line: string) => Effect.Effect<void>
}

/** What `Follow` tells and `Again` asks. */
export interface More {
  readonly follow?: (conversation: string) => Stream.Stream<ChatEvent, ChatError>
  readonly again?: (options: {
    readonly conversation: string
    readonly newId: string
    readonly text?: string
  }) => Stream.Stream<ChatEvent, ChatError>
  /** Called when a decision was given. */
  readonly decide?: (id: string, decision: Decision) => Effect.Effect<void, ChatError>
  readonly queue?: () => ReadonlyArray<{
    readonly messageId: string
    readonly text: string
    readonly state: "running" | "approval" | "waiting"
  }>
  readonly results?: Stream.Stream<Run>
}

/** The parts of the schedule and of memory that a chat uses here. */
const memoryGroup = RpcGroup.make(MemoryRpc.Get).prefix("Memory.")
const cronGroup = RpcGroup.make(CronRpc.List, CronRpc.Results, CronRpc.Acknowledge).prefix("Cron.")

/** What the assistant does with the n-th call of `Send`. */
export type Script = (question: Question, index: number) => Stream.Stream<ChatEvent, ChatError>

export const make = Effect.fnUntraced(
  function* (
    script: Script,
    options: {
      readonly serverName?: string
      readonly history?: ReadonlyArray<ChatMessage>
      readonly listening?: boolean
      readonly tier?: boolean
      readonly paired?: boolean
      /** The llm tier has another key than the device was told. */
      readonly otherTier?: boolean
    } & More = {}
  ) {
    const tier = yield* SubscriptionRef.make({ connected: options.tier ?? true, since: 0 })
    const fibers = yield* FiberSet.make<unknown, unknown>()
    const alarms = yield* Alarms.make()
    const seal = yield* Effect.orDie(
      SealedTier.make({ identity: options.otherTier === true ? pairOf(99) : tierIdentity, folder: "/devices", alarms })
    )
    const asked: Array<Question> = []
    const stopped: Array<string> = []
    const decided: Array<readonly [string, Decision]> = []
    const acknowledged: Array<number> = []
    const answering = new Map<string, Deferred.Deferred<never, ChatError>>()
    let listening = options.listening ?? true
    let cancelled = 0
    let lastRequest = ""
    let cutNow: Effect.Effect<void> = Effect.void
    interface Chat {
      readonly stream: TransportStream
      readonly raw: TransportStream
      readonly fiber: Fiber.Fiber<unknown, unknown>
    }
    const chats = new Set<Chat>()

    const denied = new ControlError({ reason: "Denied", message: "not here" })
    const control = ControlRpc.toLayer({
      "Control.Status": () =>
        Effect.map(SubscriptionRef.get(tier), (llm) => ({
          tier: "server" as const,
          version: "1.2.3",
          name: options.serverName ?? "home",
          pid: 1,
          uptimeMs: 5,
          address: "192.0.2.1:50000",
          sessions: 1,
          llm,
          drops: {},
          you: { device: "0123456789abcdef0123456789abcdef", name: "laptop", role: "owner" as const }
        })),
      "Control.Watch": () => SubscriptionRef.changes(tier),
      "Control.Echo": ({ data }) => Effect.succeed(data),
      "Control.Devices": () => Effect.fail(denied),
      "Control.Rename": () => Effect.fail(denied),
      "Control.Revoke": () => Effect.fail(denied),
      "Control.NewCredential": () => Effect.fail(denied),
      "Control.Reach": () => Effect.fail(denied),
      "Control.Answer": () => Effect.fail(denied),
      "Control.Audit": () => Stream.fail(denied),
      "Control.Compromised": () => Effect.fail(denied)
    })
    const files = Layer.provide(Files.layer, Layer.mergeAll(RemoteFiles.layerMemory({}), CryptoNode.layer))
    const wasStopped = new ChatError({ reason: "Stopped", message: "the answer was stopped" })
    /** An answer that may be stopped, and that says when its reader leaves. */
    const answer = (messageId: string, told: () => Stream.Stream<ChatEvent, ChatError>) =>
      Stream.suspend(() => {
        const stop = Deferred.makeUnsafe<never, ChatError>()
        answering.set(messageId, stop)
        return Stream.interruptWhen(told(), Deferred.await(stop))
      }).pipe(
        Stream.onExit((exit) =>
          Effect.sync(() => {
            if (exit._tag === "Failure" && Cause.hasInterrupts(exit.cause)) cancelled++
            else answering.delete(messageId)
          })
        )
      )
    const chatHandlers = ChatRpc.toLayer({
      "Chat.Send": (question) =>
        answer(question.messageId, () => {
          asked.push({ ...question })
          return script(question, asked.length - 1)
        }),
      "Chat.Follow": ({ conversation }) => options.follow?.(conversation) ?? Stream.empty,
      "Chat.Stop": ({ messageId }) =>
        Effect.sync(() => {
          const meant = [...answering].filter(([id]) => messageId === undefined || id === messageId)
          for (const [id, stop] of meant) {
            stopped.push(id)
            answering.delete(id)
            Deferred.doneUnsafe(stop, Effect.fail(wasStopped))
          }
          return meant.length
        }),
      "Chat.Approve": ({ approvalId, decision }) =>
        Effect.suspend(() => {
          decided.push([approvalId, decision])
          return options.decide?.(approvalId, decision) ?? Effect.void
        }),
      "Chat.Queue": () => Effect.succeed(options.queue?.() ?? []),
      "Chat.Again": (again) =>
        answer(
          again.newId,
          () =>
            options.again?.(again) ??
            Stream.fail(new ChatError({ reason: "NotFound", message: "there is no such question" }))
        ),
      "Chat.History": ({ limit }) => Effect.succeed((options.history ?? []).slice(-limit)),
      "Chat.Conversations": () =>
        Effect.succeed([{ name: "main", created: 0, messages: (options.history ?? []).length }]),
      "Chat.Status": () =>
        Effect.succeed({
          provider: "scripted",
          model: "script-1",
          chosen: "by the test",
          contextFiles: [{ name: "SOUL.md", bytes: 12, state: "used" as const, tokens: 7, budget: 500 }],
          conversations: 1,
          version: "1.2.3"
        })
    })
    const cron = cronGroup.toLayer({
      "Cron.List": () => Effect.succeed({ file: { zone: "UTC", jobs: 0, problems: [] }, jobs: [], more: false }),
      "Cron.Results": () => Stream.concat(options.results ?? Stream.empty, Stream.never),
      "Cron.Acknowledge": ({ ids }) =>
        Effect.sync(() => {
          acknowledged.push(...ids)
          return ids.length
        })
    })
    const line = {
      key: "",
      requests: 1,
      usage: { inputTokens: 3, outputTokens: 5 },
      cost: 0.5,
      unpriced: 0,
      estimated: 0
    }
    const usage = UsageRpc.toLayer({
      "Usage.Sum": ({ by }) =>
        Effect.succeed({
          lines: [{ ...line, key: by === "day" ? "1970-01-01" : "main" }],
          total: { ...line, requests: 2 },
          truncated: false,
          budgets: [{ period: "day" as const, limit: 1, spent: 0.5 }]
        }),
      "Usage.Models": () =>
        Effect.succeed({
          models: [
            { provider: "scripted", id: "script-1", current: true, price: { input: 1, cached: 0.5, output: 2 } }
          ],
          problems: []
        })
    })
    const memory = memoryGroup.toLayer({ "Memory.Get": () => Effect.succeed("- likes tea\n") })
    const chat = Layer.mergeAll(chatHandlers, cron, memory, usage)

    const endChat = (one: Chat, code: number | undefined) =>
      Effect.gen(function* () {
        chats.delete(one)
        if (code === undefined) return yield* one.stream.finish
        yield* one.stream.reset(code)
        yield* one.stream.stop(code)
      }).pipe(Effect.ensuring(Effect.forkDetach(Fiber.interrupt(one.fiber))))

    const serve = Effect.fnUntraced(function* (stream: TransportStream) {
      const { head, rest } = yield* take(stream, 1)
      if (head[0] === StreamHeader.SERVER) {
        yield* Effect.provide(RpcStream.serve(ControlRpc.merge(FilesRpc), rest), Layer.merge(control, files))
        return
      }
      if (!(yield* SubscriptionRef.get(tier)).connected) {
        yield* stream.reset(StreamHeader.Code.TierAway)
        return yield* stream.stop(StreamHeader.Code.TierAway)
      }
      const { head: version, rest: opening } = yield* take(rest, 1)
      const header = Uint8Array.of(StreamHeader.LLM, ...version)
      const accepted = yield* seal.accept(opening, new Uint8Array(16), header)
      if (accepted._tag === "None") return
      const sealed = accepted.value
      const read = Effect.tap(sealed.read, (chunks) =>
        Effect.sync(() => {
          for (const chunk of chunks)
            lastRequest = /"id":("?\w+"?)/.exec(new TextDecoder().decode(chunk))?.[1] ?? lastRequest
        })
      )
      const fiber = yield* FiberSet.run(
        fibers,
        Effect.provide(RpcStream.serve(ChatRpc.merge(cronGroup, memoryGroup, UsageRpc), { ...sealed, read }), chat)
      )
      const one: Chat = { stream: sealed, raw: stream, fiber }
      chats.add(one)
      yield* Fiber.await(fiber)
      chats.delete(one)
    })

    const connect = Effect.gen(function* () {
      if (!listening) return yield* new TransportError({ reason: "NoAnswer", message: "nobody answered" })
      const over = yield* Deferred.make<CloseReason>()
      const cuts: Array<Effect.Effect<void>> = []
      let closed = false
      cutNow = Effect.suspend(() => {
        closed = true
        const end = Deferred.succeed(over, { by: "timeout", what: "dead" } as const)
        return Effect.andThen(Effect.all(cuts, { discard: true }), end)
      })
      const connection: Connection = {
        credential: "00".repeat(16),
        deviceName: "",
        remote: Effect.succeed({ host: "192.0.2.1", port: 50000 }),
        open: () =>
          Effect.gen(function* () {
            if (closed) return yield* failed("Closed")
            const pair = yield* makePair
            cuts.push(pair.cut)
            yield* FiberSet.run(fibers, Effect.ignoreCause(serve(pair.theirs)))
            return pair.ours
          }),
        accept: Effect.never,
        sendDatagram: () => Effect.succeed(false),
        receiveDatagram: Effect.never,
        stats: Effect.succeed({ ...NO_STATS, rttMs: 12.34, sentBytes: 2048, receivedBytes: 512 }),
        closed: Deferred.await(over),
        stalled: Effect.never,
        answering: Effect.never,
        happened: Effect.never,
        local: Effect.succeed([]),
        carry: () => Effect.void,
        paths: Effect.succeed([]),
        offer: () => Effect.void,
        rebind: Effect.void,
        rekey: Effect.void,
        compromise: Effect.succeed(NO_WORDS),
        compromised: Effect.never,
        acknowledge: () => Effect.succeed(NO_WORDS),
        close: () => cutNow
      }
      return connection
    })

    const transport = Transport.of({
      listen: () => Effect.die(new Error("nobody listens here")),
      connect: () => connect
    })
    const link = yield* ClientLink.make({
      identity: options.paired === false ? { ...identity, invitations: Effect.succeed([]) } : identity,
      pairing: undefined,
      deviceName: "laptop",
      patience: ClientLink.PATIENCE,
      timeoutMs: 1000
    }).pipe(
      Effect.provideService(Transport, transport),
      Effect.provide(Resolver.layerMemory({})),
      Effect.provideService(Random.Random, STEADY)
    )

    const world: World = {
      link,
      cut: Effect.suspend(() => cutNow),
      listen: (on) =>
        Effect.sync(() => {
          listening = on
        }),
      tier: Effect.fnUntraced(function* (on: boolean) {
        yield* SubscriptionRef.set(tier, { connected: on, since: 1000 })
        if (!on) yield* Effect.forEach([...chats], (one) => endChat(one, StreamHeader.Code.TierAway))
      }),
      asked: () => asked,
      cancelled: () => cancelled,
      stopped: () => stopped,
      decided: () => decided,
      acknowledged: () => acknowledged,
      chats: () => chats.size,
      endChats: (code) => Effect.forEach([...chats], (one) => endChat(one, code), { discard: true }),
      cutChats: Effect.suspend(() => Effect.forEach([...chats], ({ raw }) => raw.finish, { discard: true })),
      inject: Effect.fnUntraced(function* (line: string) {
        const bytes = new TextEncoder().encode(`${line.replaceAll("ID", lastRequest)}\n`)
        yield* Effect.forEach([...chats], ({ stream }) => Effect.ignore(stream.write(bytes)))
      })
    }
    return world
  },
  Effect.provide(Layer.mergeAll(CryptoNode.layer, layerMemory, Resolver.layerMemory({})))
)

/** Lets fibers run, no time passing, until it is so. */
export const eventually = (what: string, holds: () => boolean): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (let turns = 0; turns < 5000; turns++) {
      if (holds()) return
      yield* Effect.yieldNow
    }
    return yield* Effect.die(new Error(`never came: ${what}`))
  })

/** Lets fibers run until they all wait. */
export const settle: Effect.Effect<void> = Effect.gen(function* () {
  for (let turns = 0; turns < 500; turns++) yield* Effect.yieldNow
})
