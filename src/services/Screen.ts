/** What a chat needs of the terminal, or of the pipes, that it is held over. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"

export type Input =
  | { readonly _tag: "Line"; readonly text: string }
  /** Ctrl-C at a terminal. In a pipe SIGINT stays the process's own business. */
  | { readonly _tag: "Interrupt" }

/**
 * Whoever writes cleans first (`domain/Printable`): what is given here reaches the terminal as it is. Nothing is read
 * from standard input before `input`, `prompt` or `rest` is used.
 */
export class Screen extends Context.Service<
  Screen,
  {
    /** Both standard input and standard output are terminals. */
    readonly interactive: boolean
    /** The next thing the user does; ends with `Done` at the end of the input (Ctrl-D). One reader at a time. */
    readonly input: Effect.Effect<Input, Cause.Done>
    /** All that is left of the input as one text, cut at `maxChars`. */
    readonly rest: (maxChars: number) => Effect.Effect<string>
    /**
     * Shows a prompt on a line of its own, below whatever is written from now on; undefined takes it away, then what is
     * typed ahead shows only between lines. Does nothing in a pipe.
     */
    readonly prompt: (text: string | undefined) => Effect.Effect<void>
    /** Forgets what is typed and not entered yet; false when there was nothing. */
    readonly discard: Effect.Effect<boolean>
    /** To standard output; returns when there is room for more. `Done`: nobody reads it any more. */
    readonly write: (text: string) => Effect.Effect<void, Cause.Done>
    /** One notice to standard error, on lines of its own; dim on a terminal. */
    readonly note: (text: string) => Effect.Effect<void>
    /** There is a person who can be asked with `ask`: standard input and standard error are terminals. */
    readonly asks: boolean
    /** Asks on standard error and reads one line, where `input` is not used; undefined at the end of the input. */
    readonly ask: (question: string) => Effect.Effect<string | undefined>
    /** Clears the terminal; nothing in a pipe. */
    readonly clear: Effect.Effect<void>
  }
>()("clawchat/services/Screen") {}

/** A screen in memory and the hands of its user. */
export interface MemoryScreen {
  readonly screen: Screen["Service"]
  readonly type: (line: string) => Effect.Effect<void>
  readonly interrupt: Effect.Effect<void>
  /** Text that is typed but not entered: what `discard` finds. */
  readonly draft: (text: string) => Effect.Effect<void>
  /** End of input. */
  readonly end: Effect.Effect<void>
  /** Nobody reads standard output from now on. */
  readonly hangUp: Effect.Effect<void>
  /** All that was written so far. */
  readonly stdout: () => string
  readonly notes: () => ReadonlyArray<string>
  readonly prompt: () => string | undefined
}

export const makeMemory = (options: {
  readonly interactive: boolean
  /** As `interactive` if not given. */
  readonly asks?: boolean
}): Effect.Effect<MemoryScreen> =>
  Effect.map(Queue.unbounded<Input, Cause.Done>(), (inputs) => {
    let out = ""
    let prompt: string | undefined
    let typed = ""
    let deaf = false
    const notes: Array<string> = []
    const screen = Screen.of({
      interactive: options.interactive,
      input: Queue.take(inputs),
      rest: (maxChars) =>
        Effect.map(
          Effect.orElseSucceed(Queue.collect(inputs), () => []),
          (all) =>
            all
              .map((input) => (input._tag === "Line" ? `${input.text}\n` : ""))
              .join("")
              .slice(0, maxChars)
        ),
      prompt: (text) =>
        Effect.sync(() => {
          prompt = text
        }),
      discard: Effect.sync(() => {
        const had = typed !== ""
        typed = ""
        return had
      }),
      write: (text) =>
        Effect.suspend(() => {
          if (deaf) return Cause.done()
          out += text
          return Effect.void
        }),
      note: (text) => Effect.sync(() => void notes.push(text)),
      asks: options.asks ?? options.interactive,
      ask: (question) =>
        Effect.andThen(
          Effect.sync(() => void notes.push(question)),
          Queue.take(inputs).pipe(
            Effect.map((input) => (input._tag === "Line" ? input.text : "")),
            Effect.orElseSucceed(() => undefined)
          )
        ),
      clear: Effect.sync(() => {
        out = ""
      })
    })
    return {
      screen,
      type: (text) => Effect.asVoid(Queue.offer(inputs, { _tag: "Line", text })),
      interrupt: Effect.asVoid(Queue.offer(inputs, { _tag: "Interrupt" })),
      draft: (text) =>
        Effect.sync(() => {
          typed = text
        }),
      end: Effect.asVoid(Queue.end(inputs)),
      hangUp: Effect.sync(() => {
        deaf = true
      }),
      stdout: () => out,
      notes: () => notes,
      prompt: () => prompt
    }
  })
