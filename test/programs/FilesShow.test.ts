import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { TransferError } from "../../src/domain/TransferError.ts"
import { ExitCode } from "../../src/programs/cli/Failure.ts"
import * as FilesShow from "../../src/programs/cli/FilesShow.ts"
import type { Event } from "../../src/programs/TransferEvent.ts"
import * as FilesConsole from "./FilesConsole.ts"

const way = (name: string) => ({ from: `/${name}`, to: `here/${name}` })
const done = (name: string, size: number): Event => ({ _tag: "Done", ...way(name), size, root: "ab", moved: size })
const ALL: ReadonlyArray<Event> = [
  { _tag: "Folder", to: "here" },
  { _tag: "Started", ...way("big"), size: 4_000_000 },
  { _tag: "Resuming", ...way("big"), offset: 1_000_000 },
  done("small", 5),
  { _tag: "Progress", ...way("big"), bytes: 2_000_000, size: 4_000_000 },
  { _tag: "Same", ...way("same"), size: 3 },
  { _tag: "Skipped", ...way("skipped") },
  { _tag: "Reconnecting", message: "no answer" },
  { _tag: "Failed", ...way("failed"), reason: "NotFound", message: '"/failed": no such file' },
  { _tag: "Failed", ...way("other"), reason: "Denied", message: '"/other": permission denied' },
  { ...done("big", 4_000_000), moved: 3_000_000 } as Event
]
const called: FilesShow.Called = ({ to }) => to

/** What a person saw, the last of what was drawn over each other. */
const screen = (text: string): ReadonlyArray<string> =>
  text.split("\n").map((line) => line.split("\r\u001b[K").at(-1) ?? "")

describe("FilesShow", () => {
  it.effect("where nobody looks: a line for each file, failures, a sum, and the first failure's code", () =>
    Effect.gen(function* () {
      const console = yield* FilesConsole.make()
      const show = yield* FilesShow.make({ json: false, quiet: false })
      yield* show.run(Stream.fromIterable(ALL), called)
      yield* TestClock.adjust("2 seconds")
      const failure = yield* Effect.flip(show.end)
      assert.deepStrictEqual([failure.code, failure.message], [ExitCode.NotFound, "2 files failed"])
      assert.strictEqual(console.out, "")
      assert.deepStrictEqual(console.err.split("\n"), [
        'clawchat: "/failed": no such file',
        'clawchat: "/other": permission denied',
        "resuming here/big at 1.00 MB",
        "here/small  5 B",
        "here/same  is the same already",
        "here/skipped  skipped: it is there already",
        "the line was lost (no answer); trying again",
        "here/big  4.00 MB",
        "2 files; 3.00 MB in 0:02, 1.50 MB/s; 1 the same already; 1 skipped; 2 failed",
        ""
      ])
      assert.deepInclude(show.sum, { files: 2, same: 1, skipped: 1, failed: 2, moved: 3_000_005 })
    })
  )

  it.effect("quietly: nothing but failures", () =>
    Effect.gen(function* () {
      const console = yield* FilesConsole.make({ isTerminal: true })
      const show = yield* FilesShow.make({ json: false, quiet: true })
      yield* show.run(Stream.fromIterable(ALL), called)
      yield* show.note("a word")
      yield* Effect.flip(show.end)
      assert.strictEqual(
        console.out + console.err,
        'clawchat: "/failed": no such file\nclawchat: "/other": permission denied\n'
      )
    })
  )

  it.effect("as JSON: each event on a line of its own, and nothing that could steer", () =>
    Effect.gen(function* () {
      const console = yield* FilesConsole.make({ isTerminal: true })
      const show = yield* FilesShow.make({ json: true, quiet: false })
      const evil = done("\u001b[2J\u009b\u202ex\n", 1)
      yield* show.run(Stream.fromIterable([...ALL, evil]), called)
      yield* show.same({ from: "/s", to: "s", size: 2 })
      const lines = console.out.trimEnd().split("\n")
      assert.deepStrictEqual(
        lines.map((line) => JSON.parse(line)),
        [...ALL, evil, { _tag: "Same", from: "/s", to: "s", size: 2 }]
      )
      // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what may not be there
      assert.notMatch(console.out, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/)
      assert.match(console.err, /^(clawchat: [^\n]+\n){2}$/)
    })
  )

  it.effect("at a terminal: one line, drawn again and again, within its columns, gone in the end", () =>
    Effect.gen(function* () {
      const console = yield* FilesConsole.make({ isTerminal: true, columns: 60 })
      const show = yield* FilesShow.make({ json: false, quiet: false })
      const events = yield* Queue.unbounded<Event>()
      const running = yield* Effect.forkChild(show.run(Stream.fromQueue(events), called))
      const name = `${"long/".repeat(30)}\u001b[31mred\u202e`
      yield* Queue.offer(events, { _tag: "Started", ...way(name), size: 4_000_000 })
      for (let i = 1; i <= 20; i++) {
        yield* Queue.offer(events, { _tag: "Progress", ...way(name), bytes: i * 200_000, size: 4_000_000 })
        yield* TestClock.adjust("100 millis")
      }
      const frames = console.err.split("\r\u001b[K").slice(1)
      assert.isAtLeast(frames.length, 15)
      for (const frame of frames) {
        assert.isAtMost(frame.length, 59, frame)
        // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what may not be there
        assert.notMatch(frame, /[\u0000-\u001f\u202e]/)
      }
      assert.match(frames.at(-1) ?? "", /\u2026.*red {2}\[#+\.*\] +\d+ %|\u2026.*red .*\d MB\/s/)
      // A failure stands above what is drawn; while a question is asked nothing is drawn.
      yield* Queue.offer(events, { _tag: "Failed", ...way("f"), reason: "Denied", message: "denied" })
      yield* TestClock.adjust("100 millis")
      assert.include(screen(console.err), "clawchat: denied")
      const before = yield* show.aside(
        Effect.gen(function* () {
          const before = console.err
          yield* TestClock.adjust("1 second")
          assert.strictEqual(console.err, before)
          return before
        })
      )
      assert.isTrue(before.endsWith("\r\u001b[K"))
      yield* TestClock.adjust("100 millis")
      assert.isAbove(console.err.length, before.length)
      yield* Fiber.interrupt(running)
      assert.strictEqual(screen(console.err).at(-2), FilesShow.KEPT)
    })
  )

  it.effect("at a terminal: says what it compares before anything goes, and elsewhere nothing of that", () =>
    Effect.gen(function* () {
      for (const isTerminal of [true, false]) {
        const console = yield* FilesConsole.make({ isTerminal, columns: 30 })
        const show = yield* FilesShow.make({ json: false, quiet: false })
        const events = yield* Queue.unbounded<Event>()
        const running = yield* Effect.forkChild(show.run(Stream.fromQueue(events), called))
        const name = `${"long/".repeat(30)}\u001b[31mred`
        yield* Queue.offer(events, { _tag: "Started", ...way(name), size: 4_000_000 })
        yield* Queue.offer(events, { _tag: "Comparing", ...way(name), size: 4_000_000 })
        yield* TestClock.adjust("100 millis")
        const drawn = () => screen(console.err).at(-1) ?? ""
        if (isTerminal) assert.match(drawn(), /^comparing \u2026[a-z[\]0-9/]*red$/)
        assert.isAtMost(drawn().length, isTerminal ? 29 : 0)
        yield* Queue.offer(events, { _tag: "Progress", ...way(name), bytes: 200_000, size: 4_000_000 })
        yield* TestClock.adjust("100 millis")
        assert.notInclude(drawn(), "comparing")
        yield* Fiber.interrupt(running)
      }
    })
  )

  it.effect("says on which side a file failed, and what became of a time", () =>
    Effect.gen(function* () {
      const console = yield* FilesConsole.make()
      const show = yield* FilesShow.make({ json: false, quiet: false })
      const failed = { _tag: "Failed", ...way("f"), reason: "Denied", message: "denied" } as const
      const events: ReadonlyArray<Event> = [
        { ...failed, side: "here" },
        { ...failed, side: "server" },
        { ...failed, reason: "BadName", side: "server" },
        { _tag: "Same", ...way("a"), size: 1, touched: true },
        { _tag: "Same", ...way("b"), size: 1, touched: false }
      ]
      yield* show.run(Stream.fromIterable(events), called)
      assert.deepStrictEqual(console.err.split("\n"), [
        "clawchat: denied (here)",
        "clawchat: denied (on the server)",
        "clawchat: denied",
        "here/a  is the same already, and now of the same time and mode",
        "here/b  is the same already, but for its time or mode",
        ""
      ])
    })
  )

  it.effect("a transfer that ends early has a code of its own, and what the server said cannot steer", () =>
    Effect.gen(function* () {
      yield* FilesConsole.make()
      const codes = { Lost: 69, Idle: 75, Stopped: 130, Protocol: 1, ReadOnly: 4, BadName: 2 } as const
      for (const [reason, code] of Object.entries(codes)) {
        const show = yield* FilesShow.make({ json: false, quiet: false })
        const error = new TransferError({ reason: reason as keyof typeof codes, message: "\u001b[2Jwhy\nnot" })
        const failure = yield* Effect.flip(show.run(Stream.fail(error), called))
        assert.deepStrictEqual([failure.code, failure.message], [code, "why not"])
      }
    })
  )

  it.effect("says nothing in the end where there was nothing, and counts one as one", () =>
    Effect.gen(function* () {
      const console = yield* FilesConsole.make()
      const none = yield* FilesShow.make({ json: false, quiet: false })
      yield* none.end
      assert.strictEqual(console.err, "")
      const one = yield* FilesShow.make({ json: false, quiet: false })
      yield* one.run(Stream.make(done("a", 1)), called)
      yield* TestClock.adjust("1 second")
      yield* one.end
      assert.strictEqual(console.err, "here/a  1 B\n1 file; 1 B in 0:01, 1 B/s\n")
      const failed = yield* FilesShow.make({ json: false, quiet: false })
      yield* failed.run(Stream.make({ _tag: "Failed", ...way("f"), reason: "Busy", message: "busy" }), called)
      const failure = yield* Effect.flip(failed.end)
      assert.deepStrictEqual([failure.code, failure.message], [ExitCode.TryAgain, "one file failed"])
    })
  )
})
