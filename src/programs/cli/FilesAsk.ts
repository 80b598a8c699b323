/** What to do where something else is there already: asked at a terminal, refused where nobody can be asked. */
import * as Readline from "node:readline"
import * as Effect from "effect/Effect"
import * as Printable from "../../domain/Printable.ts"
import * as Progress from "../../domain/Progress.ts"
import type * as TransferEvent from "../TransferEvent.ts"
import { type Failure, failed } from "./Failure.ts"
import type * as FilesShow from "./FilesShow.ts"
import * as Output from "./Output.ts"

const HINT = "give --conflict skip, overwrite or rename"

/** Nothing is overwritten unasked. */
export const refusal = (path: string): Failure => failed(Printable.line(`${path} is there already: ${HINT}`))

const question = (text: string): Effect.Effect<string> =>
  Effect.callback((resume) => {
    // Without raw mode Ctrl-C stays the process's own.
    const lines = Readline.createInterface({ input: process.stdin, output: process.stderr, terminal: false })
    let given = "q"
    lines.once("close", () => resume(Effect.succeed(given)))
    lines.question(text, (answer) => {
      given = answer.trim()
      // It pauses the input: who asks next must come after that.
      lines.close()
    })
    return Effect.sync(() => lines.close())
  })

const ANSWERS: Readonly<Record<string, TransferEvent.Answer>> = { s: "skip", o: "overwrite", r: "rename", q: "stop" }

const facts = (size: number | undefined, mtimeMs: number): string =>
  `${size === undefined ? "of unknown size" : Progress.size(size)}, ${new Date(mtimeMs).toISOString().slice(0, 16).replace("T", " ")}`

/** `where`: what the target's side is called. */
export const make = (show: FilesShow.Show, where: "here" | "there", called: FilesShow.Called = ({ to }) => to) => {
  const canAsk = process.stdin.isTTY && process.stderr.isTTY
  let always: TransferEvent.Answer | undefined
  let refused = 0

  const ask = Effect.fnUntraced(function* ({ item, source, target }: TransferEvent.Conflict) {
    if (always !== undefined) return always
    if (!canAsk) {
      refused++
      yield* Output.note(`clawchat: ${refusal(called(item)).message}`)
      return "skip"
    }
    yield* Output.note(
      Printable.line(
        `${called(item)} is ${where} already: ${target.kind}, ${facts(target.size, target.mtimeMs)}; new: ${facts(source.size, source.mtimeMs)}`
      )
    )
    for (;;) {
      const given = yield* question("(s)kip, (o)verwrite, (r)ename, (q)uit; S, O, R for all: ")
      const answer = ANSWERS[given.slice(0, 1).toLowerCase()]
      if (answer === undefined) continue
      if (/^[SOR]/.test(given)) always = answer
      return answer
    }
  })
  const options = (conflict: TransferEvent.Rule): Pick<TransferEvent.Options, "conflict" | "ask"> => ({
    conflict,
    ask: (found) => show.aside(ask(found))
  })
  /** Fails where a question had to go unasked. */
  const end: Effect.Effect<void, Failure> = Effect.suspend(() =>
    refused === 0
      ? Effect.void
      : Effect.fail(failed(`${refused === 1 ? "one target is" : `${refused} targets are`} there already: ${HINT}`))
  )
  return { options, end }
}
