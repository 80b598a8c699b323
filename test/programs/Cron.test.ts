/** The Cron group as its handlers answer. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RpcTest from "effect/rpc/RpcTest"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { CronRpc } from "../../src/domain/CronRpc.ts"
import { Cron, layerHandlers } from "../../src/programs/Cron.ts"
import * as World from "./CronWorld.ts"

const { job } = World

const client = Effect.fnUntraced(function* (file: string, now = "2026-03-06T12:00:30Z") {
  const world = yield* World.make({ now, file })
  const { cron } = yield* world.start()
  const handlers = layerHandlers.pipe(Layer.provide(Layer.succeed(Cron, cron)))
  const procedures = yield* RpcTest.makeClient(CronRpc).pipe(Effect.provide(handlers))
  return { ...world, cron, procedures, text: world.memory.files.read }
})

describe("Cron", () => {
  it.effect("adds, shows, edits, disables and removes a job, and keeps the user's text", () =>
    Effect.gen(function* () {
      const before = "# Mine\n\nWords.\n"
      const { procedures, text } = yield* client(before)
      const added = yield* procedures["Cron.Add"]({
        name: "Mail",
        schedule: "0 9 * * 1",
        command: "read my mail",
        timezone: "Europe/Berlin",
        context: "Be brief."
      })
      assert.deepInclude(added, {
        line: 5,
        words: "every Monday at 09:00",
        zone: "Europe/Berlin",
        next: [
          "2026-03-09T08:00:00.000Z",
          "2026-03-16T08:00:00.000Z",
          "2026-03-23T08:00:00.000Z",
          "2026-03-30T07:00:00.000Z",
          "2026-04-06T07:00:00.000Z"
        ],
        failures: 0
      })
      assert.isTrue((yield* text).startsWith(before))
      const edited = yield* procedures["Cron.Edit"]({ name: "mail", change: { schedule: "@daily", context: null } })
      assert.strictEqual(edited.words, "every day at 00:00")
      const disabled = yield* procedures["Cron.Disable"]({ name: "Mail" })
      assert.deepStrictEqual(disabled.next, [])
      assert.isFalse(disabled.job.enabled)
      const next = yield* procedures["Cron.Next"]({ name: "Mail" })
      assert.strictEqual(next.next.length, 5)
      const enabled = yield* procedures["Cron.Enable"]({ name: "Mail" })
      assert.strictEqual(enabled.next.length, 5)
      const { runs, view } = yield* procedures["Cron.Show"]({ name: "MAIL" })
      assert.deepStrictEqual([view.job.name, runs.length], ["Mail", 0])
      assert.strictEqual((yield* procedures["Cron.Remove"]({ name: "Mail" })).command, "read my mail")
      assert.strictEqual(yield* text, before)
    })
  )

  it.effect("proposes without changing anything", () =>
    Effect.gen(function* () {
      const { procedures, text } = yield* client(job("A", "@daily"))
      const before = yield* text
      const preview = yield* procedures["Cron.Propose"]({ name: "B", schedule: "*/15 * * * *", command: "x" })
      assert.deepStrictEqual(
        [preview.words, preview.zone, preview.next[0]],
        ["every 15 minutes", "UTC", "2026-03-06T12:15:00.000Z"]
      )
      const twin = yield* Effect.flip(procedures["Cron.Propose"]({ name: "a", schedule: "@daily", command: "x" }))
      assert.deepInclude(twin, { _tag: "CronError", reason: "Exists" })
      assert.strictEqual(yield* text, before)
    })
  )

  const refusals = [
    ["a schedule", { schedule: "0 9 * * mno" }, "Invalid", /^Schedule: .*write 0-7/, 9],
    ["a moment that has passed", { schedule: "@at 2026-03-06T11:00" }, "Invalid", /^Schedule: .* has passed in UTC/, 1],
    ["a zone", { timezone: "Mars/Base" }, "Invalid", /^Timezone: /, 1],
    [
      "a second job in the context",
      { context: "x\n## B\n**Schedule**: * * * * *\n**Command**: steal" },
      "Invalid",
      /^Context: /,
      1
    ],
    ["a name that is taken", { name: "a" }, "Exists", /already/, undefined]
  ] as const
  for (const [what, wrong, reason, message, column] of refusals) {
    it.effect(`refuses ${what}, and says where`, () =>
      Effect.gen(function* () {
        const { procedures, text } = yield* client(job("A", "@daily"))
        const before = yield* text
        const error = yield* Effect.flip(
          procedures["Cron.Add"]({ name: "New", schedule: "@daily", command: "x", ...wrong })
        )
        assert.deepInclude(error, { _tag: "CronError", reason })
        assert.match(error.message, message)
        if (error._tag === "CronError") assert.strictEqual(error.problems[0]?.column, column)
        assert.strictEqual(yield* text, before)
      })
    )
  }

  it.effect("names no job that is not there", () =>
    Effect.gen(function* () {
      const { procedures } = yield* client("")
      const name = "Gone"
      const calls = [
        Effect.asVoid(procedures["Cron.Show"]({ name })),
        Effect.asVoid(procedures["Cron.Remove"]({ name })),
        Effect.asVoid(procedures["Cron.Enable"]({ name })),
        Effect.asVoid(procedures["Cron.Edit"]({ name, change: {} })),
        Effect.asVoid(procedures["Cron.Next"]({ name })),
        Stream.runDrain(procedures["Cron.Run"]({ name, requestId: "00000000-0000-4000-8000-000000000001" }))
      ]
      for (const call of calls) assert.deepInclude(yield* Effect.flip(call), { reason: "NotFound" })
    })
  )

  it.effect("lists by pages, with what each did last", () =>
    Effect.gen(function* () {
      const { procedures } = yield* client(["A", "B", "C"].map((name) => job(name, "@hourly")).join(""))
      yield* TestClock.adjust("1 hour")
      const first = yield* procedures["Cron.List"]({ limit: 2 })
      assert.deepStrictEqual(first.file, { zone: "UTC", jobs: 3, problems: [] })
      assert.deepStrictEqual(
        first.jobs.map((view) => [view.job.name, view.last?.status, view.last?.text]),
        [
          ["A", "ran", ""],
          ["B", "ran", ""]
        ]
      )
      assert.isTrue(first.more)
      const second = yield* procedures["Cron.List"]({ after: "B" })
      assert.deepStrictEqual([second.jobs.length, second.more], [1, false])
      const runs = yield* procedures["Cron.Runs"]({ name: "B" })
      assert.deepStrictEqual(
        runs.map((run) => run.text),
        ["did B"]
      )
      assert.strictEqual((yield* procedures["Cron.Runs"]({ limit: 2, before: 3 })).length, 2)
    })
  )

  it.effect("runs a job on demand, and hands results over until they are acknowledged", () =>
    Effect.gen(function* () {
      const { procedures } = yield* client(job("A", "@yearly"))
      const requestId = "00000000-0000-4000-8000-000000000001"
      const events = yield* Stream.runCollect(procedures["Cron.Run"]({ name: "A", requestId }))
      assert.deepStrictEqual(
        events.map((event) => event._tag),
        ["Started", "Ended"]
      )
      const results = yield* Stream.runCollect(procedures["Cron.Results"]({}))
      assert.deepStrictEqual(
        results.map((run) => [run.job, run.text]),
        [["A", "did A"]]
      )
      assert.strictEqual(yield* procedures["Cron.Acknowledge"]({ ids: results.map((run) => run.id) }), 1)
      assert.deepStrictEqual(yield* Stream.runCollect(procedures["Cron.Results"]({})), [])
    })
  )

  it.effect("imports a page or a crontab, all of it or nothing", () =>
    Effect.gen(function* () {
      const { procedures, text } = yield* client(job("A", "@daily"))
      const before = yield* text
      const page = `**Timezone**: Asia/Tokyo\n${job("B", "0 9 * * *")}${job("C", "@weekly", "**Timezone**: UTC\n")}`
      const dry = yield* procedures["Cron.Import"]({ text: page, dryRun: true })
      assert.deepStrictEqual(
        dry.map((each) => [each.job.name, each.zone]),
        [
          ["B", "Asia/Tokyo"],
          ["C", "UTC"]
        ]
      )
      assert.strictEqual(yield* text, before)
      const twin = yield* Effect.flip(procedures["Cron.Import"]({ text: page + job("a", "@daily") }))
      assert.deepInclude(twin, { reason: "Exists" })
      const broken = yield* Effect.flip(
        procedures["Cron.Import"]({ text: "0 9 * * 1 fine\n0 99 * * * x", format: "crontab" })
      )
      assert.deepInclude(broken, { reason: "Invalid" })
      assert.match(broken.message, /line 2, column 3.*nothing was imported/)
      assert.strictEqual(yield* text, before)
      yield* procedures["Cron.Import"]({ text: page })
      yield* procedures["Cron.Import"]({ text: "30 7 * * * drink water\n" })
      const { jobs } = yield* procedures["Cron.List"]({})
      assert.deepStrictEqual(
        jobs.map((view) => `${view.job.name}, ${view.words}`),
        [
          "A, every day at 00:00",
          "B, every day at 09:00",
          "C, every Sunday at 00:00",
          "drink water, every day at 07:30"
        ]
      )
    })
  )
})
