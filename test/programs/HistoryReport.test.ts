import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as RpcTest from "effect/rpc/RpcTest"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type { Step } from "../../src/domain/History.ts"
import { type ExportFormat, HistoryRpc, maxPieceChars } from "../../src/domain/HistoryRpc.ts"
import * as ConversationsSqlite from "../../src/layers/ConversationsSqlite.ts"
import * as HistoryReport from "../../src/programs/HistoryReport.ts"
import type { Archive } from "../../src/services/Archive.ts"
import { Conversations } from "../../src/services/Conversations.ts"

const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`

const exchange = Effect.fnUntraced(function* (
  n: number,
  question: string,
  answer: string,
  more: { readonly steps?: ReadonlyArray<Step>; readonly bytes?: Uint8Array } = {}
) {
  const conversations = yield* Conversations
  const attachments =
    more.bytes === undefined ? [] : [{ name: "a\u001b[31m.png", mediaType: "image/png", bytes: more.bytes }]
  yield* conversations.ask({ conversation: "main", messageId: id(n), text: question, attachments })
  const reply = yield* conversations.beginReply({ messageId: id(n), provider: "p", model: "m" })
  for (const step of more.steps ?? []) yield* conversations.addStep(reply, step)
  yield* conversations.endReply(reply, {
    status: "complete",
    text: answer,
    model: "m-2",
    usage: { inputTokens: 1, outputTokens: 2 },
    stopReason: "end",
    cost: 0.5
  })
})

/** Conversations in `running` are being answered. */
const served = <A, E>(
  use: (client: Effect.Success<ReturnType<typeof make>>) => Effect.Effect<A, E, Conversations | Archive>,
  running: ReadonlyArray<string> = []
) =>
  Effect.gen(function* () {
    yield* TestClock.setTime(1_700_000_000_000)
    return yield* use(yield* make(running))
  }).pipe(Effect.scoped, Effect.provide(ConversationsSqlite.layerMemory))
const make = (running: ReadonlyArray<string>) =>
  RpcTest.makeClient(HistoryRpc).pipe(
    Effect.provide(HistoryReport.layerHandlers({ isRunning: (name) => Effect.succeed(running.includes(name)) }))
  )

const steps: ReadonlyArray<Step> = [
  { _tag: "Said", text: "Looking.", calls: [{ id: "1", name: "files_read", arguments: '{"path":"a"}' }] },
  { _tag: "Result", callId: "1", name: "files_read", text: "content", failed: false },
  { _tag: "Said", text: "", calls: [{ id: "2", name: "files_write", arguments: "{}" }] },
  { _tag: "Result", callId: "2", name: "files_write", text: "denied", failed: true }
]

describe("History.Export", () => {
  const whole = (client: Effect.Success<ReturnType<typeof make>>, format: ExportFormat, all?: boolean) =>
    client["History.Export"]({ conversation: "main", format, ...(all === undefined ? {} : { all }) }).pipe(
      Stream.runCollect,
      Effect.map((pieces) => {
        for (const piece of pieces) assert.isAtMost(piece.length, maxPieceChars)
        return pieces.join("")
      })
    )

  it.effect("gives all that is kept as one JSON value, in pieces", () =>
    served((client) =>
      Effect.gen(function* () {
        const bytes = new Uint8Array(200_000).map((_, index) => index % 251)
        yield* exchange(1, "look \u202eat \u0000this 😀", "Looking.\n\nDone.", { steps, bytes })
        for (let n = 2; n <= 30; n++) yield* exchange(n, `q${n}`, `a${n}`)
        const text = yield* whole(client, "json")
        assert.notInclude(text, "\u202e")
        const value: unknown = JSON.parse(text)
        assert.deepInclude(value, { conversation: "main", created: "2023-11-14T22:13:20.000Z" })
        const messages: ReadonlyArray<unknown> = Reflect.get(Object(value), "messages")
        assert.strictEqual(messages.length, 60)
        assert.deepStrictEqual(messages.slice(0, 2), [
          {
            id: id(1),
            seq: 0,
            role: "user",
            text: "look \u202eat \u0000this 😀",
            status: "complete",
            created: "2023-11-14T22:13:20.000Z",
            attachments: [
              { name: "a\u001b[31m.png", mediaType: "image/png", base64: Buffer.from(bytes).toString("base64") }
            ]
          },
          {
            id: `${id(1)}.1`,
            seq: 1,
            role: "assistant",
            text: "Looking.\n\nDone.",
            status: "complete",
            created: "2023-11-14T22:13:20.000Z",
            model: "m-2",
            usage: { inputTokens: 1, outputTokens: 2 },
            cost: 0.5,
            provider: "p",
            stopReason: "end",
            steps,
            attachments: []
          }
        ])
      })
    )
  )

  it.effect("reads well as Markdown, steers no terminal, and leaves out what was taken back", () =>
    served((client) =>
      Effect.gen(function* () {
        const conversations = yield* Conversations
        yield* exchange(1, "look \u001b[2Jhere", "Looking.\n\nDone.", { steps, bytes: new Uint8Array(3) })
        yield* exchange(2, "wrong", "no")
        yield* conversations.takeBack("main", id(3))
        assert.strictEqual(
          yield* whole(client, "markdown"),
          `# main

Begun 2023-11-14 22:13 UTC.

## You · 2023-11-14 22:13 UTC

> a.png (image/png, 3 bytes)

look here

## Assistant · 2023-11-14 22:13 UTC · m-2

> files_read {"path":"a"}
> files_write {} (failed)

Looking.

Done.
`
        )
        const all = yield* whole(client, "markdown", true)
        assert.include(all, "· taken back\n\nwrong")
        const missing = client["History.Export"]({ conversation: "other", format: "json" })
        assert.deepInclude(yield* Effect.flip(Stream.runCollect(missing)), { reason: "NotFound" })
      })
    )
  )
})

describe("History.Search, Remove, Rename", () => {
  it.effect("finds, renames and removes", () =>
    served((client) =>
      Effect.gen(function* () {
        yield* exchange(1, "where is the albatross", "at sea")
        const [found] = yield* client["History.Search"]({ text: "ALBA", limit: 10 })
        assert.deepInclude(found, { conversation: "main", seq: 0, role: "user", excerpt: "where is the albatross" })
        const nothing = client["History.Search"]({ text: " \n ", limit: 10 })
        assert.deepInclude(yield* Effect.flip(nothing), { reason: "Invalid" })
        yield* client["History.Rename"]({ conversation: "main", to: "birds" })
        assert.strictEqual(
          (yield* client["History.Search"]({ text: "sea", conversation: "birds", limit: 1 })).length,
          1
        )
        assert.strictEqual(yield* client["History.Remove"]({ conversation: "birds" }), 2)
        const gone = client["History.Remove"]({ conversation: "birds" })
        assert.deepInclude(yield* Effect.flip(gone), { reason: "NotFound" })
      })
    )
  )

  it.effect("changes nothing where a question is being answered, or waits", () =>
    served(
      (client) =>
        Effect.gen(function* () {
          yield* exchange(1, "q", "a")
          const calls = [
            client["History.Remove"]({ conversation: "main" }),
            client["History.Rename"]({ conversation: "main", to: "x" })
          ]
          for (const call of calls) assert.deepInclude(yield* Effect.flip(call), { reason: "Busy" })
          const conversations = yield* Conversations
          assert.deepInclude((yield* conversations.list)[0], { name: "main", messages: 2 })
        }),
      ["main"]
    )
  )
})
