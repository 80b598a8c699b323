import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FilesAsk from "../../src/programs/cli/FilesAsk.ts"
import * as FilesShow from "../../src/programs/cli/FilesShow.ts"
import type { Answer, Conflict } from "../../src/programs/TransferEvent.ts"
import * as FilesConsole from "./FilesConsole.ts"

const conflict = (name: string): Conflict => ({
  item: { from: `/${name}`, to: name },
  source: { size: 5, mtimeMs: 86_400_000 },
  target: { kind: "file", size: 2000, mtimeMs: 0 }
})

/** Answers to conflicts of these names, after a person has typed these lines. */
const asked = Effect.fnUntraced(function* (typed: string, names: ReadonlyArray<string>, isTerminal = true) {
  const console = yield* FilesConsole.make({ isTerminal })
  const show = yield* FilesShow.make({ json: false, quiet: false })
  const { end, options } = FilesAsk.make(show, "there")
  const { ask } = options("ask")
  if (ask === undefined) return yield* Effect.die("no question")
  const lines = typed === "" ? [] : typed.split("\n")
  const answers: Array<Answer> = []
  for (const name of names) {
    const answering = yield* Effect.forkChild(ask(conflict(name)))
    // One line for each question, once it is asked.
    while (answering.pollUnsafe() === undefined) {
      const questions = console.err.split("(q)uit").length - 1
      const line = questions > typedOf(console) ? lines[typedOf(console)] : undefined
      if (line !== undefined) {
        console.input.write(`${line}\n`)
        given.set(console, typedOf(console) + 1)
      } else if (questions > typedOf(console)) console.input.end()
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
    }
    const exit = answering.pollUnsafe()
    if (exit?._tag === "Success") answers.push(exit.value)
  }
  return { answers, console, end, options }
})
const given = new WeakMap<FilesConsole.Console, number>()
const typedOf = (console: FilesConsole.Console): number => given.get(console) ?? 0

describe("FilesAsk", () => {
  it.effect("asks at a terminal what to do, telling what is there and what comes", () =>
    Effect.gen(function* () {
      const { answers, console, end } = yield* asked("s\no\nr\nq", ["a", "b", "c", "d"])
      assert.deepStrictEqual(answers, ["skip", "overwrite", "rename", "stop"])
      assert.include(console.err, "a is there already: file, 2.00 kB, 1970-01-01 00:00; new: 5 B, 1970-01-02 00:00\n")
      yield* end
    })
  )

  it.effect("asks again what it does not understand, and takes words", () =>
    Effect.gen(function* () {
      const { answers, console } = yield* asked("what?\n\nOverwrite", ["a"])
      assert.deepStrictEqual(answers, ["overwrite"])
      assert.strictEqual(console.err.split("(q)uit").length - 1, 3)
    })
  )

  it.effect("a capital is for all that follow", () =>
    Effect.gen(function* () {
      const { answers, console } = yield* asked("s\nR", ["a", "b", "c", "d"])
      assert.deepStrictEqual(answers, ["skip", "rename", "rename", "rename"])
      assert.strictEqual(console.err.split("(q)uit").length - 1, 2)
    })
  )

  it.effect("the end of the input is a stop", () =>
    Effect.gen(function* () {
      const { answers } = yield* asked("", ["a"])
      assert.deepStrictEqual(answers, ["stop"])
    })
  )

  it.effect("a name cannot steer the terminal, and a size may be unknown", () =>
    Effect.gen(function* () {
      const console = yield* FilesConsole.make({ isTerminal: true })
      const show = yield* FilesShow.make({ json: false, quiet: false })
      const { ask } = FilesAsk.make(show, "here").options("ask")
      console.input.end("q\n")
      const unknown = { ...conflict("\u001b]0;owned\u0007x"), source: { size: undefined, mtimeMs: 0 } }
      yield* ask?.(unknown) ?? Effect.void
      assert.include(console.err, "x is here already")
      assert.include(console.err, "new: of unknown size")
      // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what may not be there
      assert.notMatch(console.err, /[\u0000-\u0009\u000b-\u001f]/)
    })
  )

  it.effect("where nobody can be asked nothing is overwritten, and the command fails with what to do", () =>
    Effect.gen(function* () {
      const { answers, console, end, options } = yield* asked("", ["a", "b"], false)
      assert.deepStrictEqual(answers, ["skip", "skip"])
      assert.match(
        console.err,
        /^clawchat: a is there already: give --conflict skip, overwrite or rename\nclawchat: b is/
      )
      const failure = yield* Effect.flip(end)
      assert.strictEqual(failure.code, 1)
      assert.match(failure.message, /^2 targets are there already: give --conflict/)
      assert.strictEqual(options("rename").conflict, "rename")
    })
  )
})
