/**
 * The terminal, or the pipes, of this process.
 *
 * A terminal is read by node:readline. What is written goes above the prompt: the prompt is erased, the text written, the
 * prompt drawn again with what is typed. While a line of text is not finished there is no place for the prompt; what is
 * typed then is kept and shows at the next line start. A pasted text is one line, its line ends shown as U+2424.
 *
 * The history of lines is kept over sessions in a file, oldest first, one line each.
 */
import * as Readline from "node:readline"
import { Transform, type TransformCallback, Writable } from "node:stream"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import { LineSplitter } from "../domain/LineSplitter.ts"
import { text, utf8 } from "../domain/protocol/Cursor.ts"
import { type Input, Screen } from "../services/Screen.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"

/** Lines kept, and UTF-16 units of one; longer ones are not. */
const HISTORY_LINES = 1000
const HISTORY_CHARS = 4096
const HISTORY_BYTES = 32 * 1024 * 1024
/** UTF-16 units of a line in a pipe: more than a message may have, so that what is cut is refused and never sent. */
const PIPE_LINE_CHARS = 512 * 1024
/** Inputs that wait to be taken. */
const MAX_INPUTS = 1024

const NEWLINE_SIGN = "\u2424"
const PASTE_START = "\x1b[200~"
const PASTE_END = "\x1b[201~"

export interface Options {
  /** Where the lines of earlier sessions are kept; none: nowhere. */
  readonly historyPath: string | undefined
}

/** The process's own streams, or those of a test. */
export interface Streams {
  readonly stdin: NodeJS.ReadStream
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
  readonly environment: Readonly<Record<string, string | undefined>>
}

/** Makes a pasted text (bracketed paste, as xterm has it) one line. Works on bytes: it stands before any decoding. */
class PasteFilter extends Transform {
  readonly isTTY = true
  readonly #stdin: NodeJS.ReadStream
  #pasting = false
  #tail = ""

  constructor(stdin: NodeJS.ReadStream) {
    super()
    this.#stdin = stdin
  }

  setRawMode(raw: boolean): this {
    this.#stdin.setRawMode(raw)
    return this
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    let rest = this.#tail + chunk.toString("latin1")
    this.#tail = ""
    let out = ""
    while (rest !== "") {
      const marker = this.#pasting ? PASTE_END : PASTE_START
      const at = rest.indexOf(marker)
      const part = at < 0 ? rest : rest.slice(0, at)
      // A marker may be cut between two reads; a lone ESC is let through, it is a key.
      const cut = at < 0 ? heldBack(part, marker) : part.length
      out += this.#pasting ? pasted(part.slice(0, cut)) : part.slice(0, cut)
      this.#tail = part.slice(cut)
      if (at < 0) break
      this.#pasting = !this.#pasting
      rest = rest.slice(at + marker.length)
    }
    done(null, Buffer.from(out, "latin1"))
  }
}

const SIGN_BYTES = Buffer.from(NEWLINE_SIGN).toString("latin1")

const pasted = (bytes: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters in a pasted text would be keys
  bytes.replace(/\r\n?|\n/g, SIGN_BYTES).replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "")

/** Where the beginning of a marker may stand at the end of `part`; its length when there is none. */
const heldBack = (part: string, marker: string): number => {
  for (let length = Math.min(marker.length - 1, part.length); length >= 2; length--) {
    if (part.endsWith(marker.slice(0, length))) return part.length - length
  }
  return part.length
}

/** What readline draws reaches the terminal only while the prompt is on it. */
class Gate extends Writable {
  readonly isTTY = true
  isOpen = false
  readonly #stdout: NodeJS.WriteStream

  constructor(stdout: NodeJS.WriteStream) {
    super({ decodeStrings: false })
    this.#stdout = stdout
  }

  get columns(): number {
    return this.#stdout.columns
  }

  get rows(): number {
    return this.#stdout.rows
  }

  override _write(chunk: Buffer | string, _encoding: BufferEncoding, done: () => void): void {
    if (this.isOpen) this.#stdout.write(chunk)
    done()
  }
}

/** One terminal and the line being typed on it. */
class Terminal {
  readonly #stdin: NodeJS.ReadStream
  readonly #stdout: NodeJS.WriteStream
  readonly #paste: PasteFilter
  readonly #gate: Gate
  readonly #readline: Readline.Interface
  readonly #onResize = (): void => {
    this.#gate.emit("resize")
  }
  /** Undefined: none, and what is typed has no right to a place of its own. */
  #prompt: string | undefined
  #isDrawn = false
  #atLineStart = true
  #isClosed = false

  /** `history` newest first. */
  constructor({ stdin, stdout }: Streams, history: Array<string>, onInput: (input: Input | undefined) => void) {
    this.#stdin = stdin
    this.#stdout = stdout
    this.#paste = new PasteFilter(stdin)
    this.#gate = new Gate(stdout)
    this.#readline = Readline.createInterface({
      input: stdin.pipe(this.#paste),
      output: this.#gate,
      terminal: true,
      history,
      historySize: HISTORY_LINES,
      removeHistoryDuplicates: true
    })
    stdout.on("resize", this.#onResize)
    stdout.write("\x1b[?2004h")
    this.#readline.on("line", (line) => {
      // Readline has gone to a new line, if what was typed could be seen.
      this.#setDrawn(false)
      onInput({ _tag: "Line", text: line.replaceAll(NEWLINE_SIGN, "\n") })
    })
    this.#readline.on("SIGINT", () => onInput({ _tag: "Interrupt" }))
    this.#readline.on("close", () => {
      this.close()
      onInput(undefined)
    })
    // After readline's own listener: what is typed while there is no prompt gets one, between two lines of text.
    this.#paste.on("keypress", () => {
      if (!this.#isDrawn) this.#draw()
      else if (this.#prompt === undefined && this.#readline.line === "") this.#erase()
    })
  }

  setPrompt(prompt: string | undefined): void {
    this.#erase()
    this.#prompt = prompt
    this.#draw()
  }

  discard(): boolean {
    const had = this.#readline.line !== ""
    if (this.#isClosed) return false
    this.#readline.write(null, { ctrl: true, name: "e" })
    this.#readline.write(null, { ctrl: true, name: "u" })
    return had
  }

  /** Writes above the prompt; false when the terminal cannot keep up. */
  write(written: string): boolean {
    this.#erase()
    const ready = this.#stdout.write(written)
    this.#atLineStart = written.endsWith("\n")
    this.#draw()
    return ready
  }

  /** Runs what writes whole lines to the terminal in another way. */
  aside(write: () => void): void {
    this.#erase()
    if (!this.#atLineStart) this.#stdout.write("\n")
    this.#atLineStart = true
    write()
    this.#draw()
  }

  clear(): void {
    this.#erase()
    this.#stdout.write("\x1b[H\x1b[2J")
    this.#atLineStart = true
    this.#draw()
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#stdout.off("resize", this.#onResize)
    this.#stdout.write(this.#isDrawn ? "\r\n\x1b[?2004l" : "\x1b[?2004l")
    this.#setDrawn(false)
    this.#readline.close()
    this.#stdin.unpipe(this.#paste)
    this.#stdin.pause()
  }

  #setDrawn(drawn: boolean): void {
    this.#isDrawn = drawn
    this.#gate.isOpen = drawn
  }

  #draw(): void {
    if (this.#isClosed || this.#isDrawn || !this.#atLineStart) return
    if (this.#prompt === undefined && this.#readline.line === "") return
    this.#setDrawn(true)
    // Readline would go up by as many rows as the prompt had when it was drawn last; it has been erased since.
    Reflect.set(this.#readline, "prevRows", 0)
    this.#readline.setPrompt(this.#prompt ?? "> ")
    this.#readline.prompt(true)
  }

  #erase(): void {
    if (this.#isClosed || !this.#isDrawn) return
    const { rows } = this.#readline.getCursorPos()
    this.#stdout.write(`${rows > 0 ? `\x1b[${rows}A` : ""}\r\x1b[J`)
    this.#setDrawn(false)
  }
}

/** Lines of a history file, oldest first. */
const parseHistory = (content: Uint8Array): ReadonlyArray<string> =>
  (text(content) ?? "").split("\n").filter((line) => line !== "")

const isDim = ({ environment, stderr }: Streams): boolean =>
  stderr.isTTY === true && (environment.NO_COLOR ?? "") === "" && environment.TERM !== "dumb"

/** Standard output with its back pressure and its end. */
const makeOutput = Effect.fnUntraced(function* (stdout: NodeJS.WriteStream, stderr: NodeJS.WriteStream) {
  let isBroken = false
  // EPIPE and the like: nobody reads any more.
  stdout.on("error", () => {
    isBroken = true
  })
  stderr.on("error", () => {})
  const events = ["drain", "error", "close"]
  const drained: Effect.Effect<void, Cause.Done> = Effect.callback((resume) => {
    const over = (): void => {
      for (const event of events) stdout.off(event, over)
      resume(isBroken ? Cause.done() : Effect.void)
    }
    for (const event of events) stdout.on(event, over)
    return Effect.sync(() => {
      for (const event of events) stdout.off(event, over)
    })
  })
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => (stdout.writableNeedDrain && !isBroken ? Effect.ignore(drained) : Effect.void))
  )
  /** Runs what writes; waits when it says that the stream is full. */
  return (put: () => boolean): Effect.Effect<void, Cause.Done> =>
    Effect.suspend(() => {
      if (isBroken || stdout.destroyed) return Cause.done()
      return put() ? Effect.void : drained
    })
})

const makeTerminal = Effect.fnUntraced(function* (options: Options, streams: Streams) {
  const store = yield* SecureFileStore
  const output = yield* makeOutput(streams.stdout, streams.stderr)
  const inputs = yield* Queue.dropping<Input, Cause.Done>(MAX_INPUTS)
  const reader = yield* makeReader(streams.stdin)
  const { historyPath } = options
  let opened: Terminal | undefined

  const readHistory: Effect.Effect<ReadonlyArray<string>> =
    historyPath === undefined
      ? Effect.succeed([])
      : store.read(historyPath, { maxBytes: HISTORY_BYTES }).pipe(
          Effect.map(Option.match({ onNone: () => [], onSome: parseHistory })),
          Effect.tap((lines) =>
            lines.length > HISTORY_LINES
              ? store.write(historyPath, utf8(lines.slice(-HISTORY_LINES).map(historyLine).join("")))
              : Effect.void
          ),
          // A history is a comfort: without it the chat goes on.
          Effect.catch((error) => Effect.as(Effect.logDebug(`No history: ${error.message}`), []))
        )
  const remember = (line: string): Effect.Effect<void> =>
    historyPath === undefined || line.trim() === "" || line.length > HISTORY_CHARS
      ? Effect.void
      : Effect.ignore(store.append(historyPath, utf8(historyLine(line.replaceAll("\n", NEWLINE_SIGN)))))

  // Raw mode and readline only once somebody wants to read: a single question asked at a terminal needs neither.
  const open = yield* Effect.cached(
    Effect.map(readHistory, (lines) => {
      const history = Array.from(new Set(lines.toReversed())).slice(0, HISTORY_LINES)
      opened = new Terminal(streams, history, (input) => {
        if (input === undefined) Queue.endUnsafe(inputs)
        else Queue.offerUnsafe(inputs, input)
      })
      return opened
    })
  )
  yield* Effect.addFinalizer(() => Effect.sync(() => opened?.close()))

  const dim = isDim(streams)
  return Screen.of({
    interactive: true,
    input: Effect.andThen(open, Queue.take(inputs)).pipe(
      Effect.tap((input) => (input._tag === "Line" ? remember(input.text) : Effect.void))
    ),
    rest: reader.rest,
    prompt: (prompt) =>
      opened === undefined && prompt === undefined
        ? Effect.void
        : Effect.map(open, (terminal) => terminal.setPrompt(prompt)),
    discard: Effect.sync(() => opened?.discard() ?? false),
    write: (written) => output(() => opened?.write(written) ?? streams.stdout.write(written)),
    note: (said) =>
      Effect.sync(() => {
        const put = (): void => {
          streams.stderr.write(dim ? `\x1b[2m${said}\x1b[22m\n` : `${said}\n`)
        }
        if (opened === undefined || streams.stderr.isTTY !== true) put()
        else opened.aside(put)
      }),
    ...asking(streams, reader.line),
    clear: Effect.sync(() => opened?.clear())
  })
})

const historyLine = (line: string): string => `${line}\n`

/** Standard input as text, read only when asked for; a piece at a time, so that a pipe's writer waits for us. */
const makeReader = Effect.fnUntraced(function* (stdin: NodeJS.ReadStream) {
  const decoder = new TextDecoder()
  let chunks: AsyncIterator<Uint8Array> | undefined
  /** What is being read: who reads next gets it, should its reader have lost interest. */
  let pending: Promise<IteratorResult<Uint8Array>> | undefined
  /** Done at the end, also when reading fails. */
  const chunk: Effect.Effect<string, Cause.Done> = Effect.callback((resume) => {
    chunks ??= stdin[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>
    pending ??= chunks.next()
    let isWanted = true
    pending.then(
      ({ done, value }) => {
        if (!isWanted) return
        pending = undefined
        resume(done === true ? Cause.done() : Effect.succeed(decoder.decode(value, { stream: true })))
      },
      () => resume(Cause.done())
    )
    return Effect.sync(() => {
      isWanted = false
    })
  })
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      if (chunks !== undefined) stdin.destroy()
    })
  )
  /** What was held back of a character, when no more comes. */
  const last = (): string => decoder.decode()
  const rest = Effect.fnUntraced(function* (maxChars: number) {
    let all = ""
    while (all.length < maxChars) {
      const piece = yield* Effect.orElseSucceed(chunk, () => undefined)
      if (piece === undefined) return (all + last()).slice(0, maxChars)
      all += piece
    }
    return all.slice(0, maxChars)
  })
  const splitter = new LineSplitter(PIPE_LINE_CHARS)
  const lines: Array<string> = []
  let isOver = false
  const line: Effect.Effect<string, Cause.Done> = Effect.suspend(() => {
    const next = lines.shift()
    if (next !== undefined) return Effect.succeed(next)
    if (isOver) return Cause.done()
    return Effect.matchEffect(chunk, {
      onSuccess: (piece) => {
        lines.push(...splitter.push(piece))
        return line
      },
      onFailure: () => {
        isOver = true
        lines.push(...splitter.push(last()), ...splitter.end())
        return line
      }
    })
  })
  return { line, rest }
})

/** One question on standard error, answered on standard input. */
const asking = ({ stderr, stdin }: Streams, line: Effect.Effect<string, Cause.Done>) => ({
  asks: stdin.isTTY === true && stderr.isTTY === true,
  ask: (question: string): Effect.Effect<string | undefined> =>
    Effect.andThen(
      Effect.sync(() => stderr.write(question)),
      Effect.orElseSucceed(line, () => undefined)
    )
})

const makePipe = Effect.fnUntraced(function* (streams: Streams) {
  const { stderr, stdin, stdout } = streams
  const output = yield* makeOutput(stdout, stderr)
  const { line, rest } = yield* makeReader(stdin)
  const input = Effect.map(line, (text): Input => ({ _tag: "Line", text }))
  /** The last line of a terminal that both kinds of output go to. */
  const isShared = stdout.isTTY === true && stderr.isTTY === true
  let isOpen = false

  const dim = isDim(streams)
  return Screen.of({
    interactive: false,
    input,
    rest,
    prompt: () => Effect.void,
    discard: Effect.succeed(false),
    write: (written) => {
      if (written !== "") isOpen = isShared && !written.endsWith("\n")
      return output(() => stdout.write(written))
    },
    note: (said) =>
      Effect.sync(() => {
        const before = isOpen ? "\n" : ""
        isOpen = false
        stderr.write(dim ? `${before}\x1b[2m${said}\x1b[22m\n` : `${before}${said}\n`)
      }),
    ...asking(streams, line),
    clear: Effect.void
  })
})

/** The screen on given streams, for its scope. */
const make = (options: Options, streams: Streams) => {
  const { environment, stdin, stdout } = streams
  const interactive = stdin.isTTY === true && stdout.isTTY === true && environment.TERM !== "dumb"
  return interactive ? makeTerminal(options, streams) : makePipe(streams)
}

/** The screen of this process. */
export const layer = (options: Options): Layer.Layer<Screen, never, SecureFileStore> =>
  Layer.effect(
    Screen,
    Effect.suspend(() =>
      make(options, {
        stdin: process.stdin,
        stdout: process.stdout,
        stderr: process.stderr,
        environment: process.env
      })
    )
  )
