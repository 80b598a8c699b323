/**
 * What becomes of a transfer, while it does: a line that is drawn again and again at a terminal, a line per file elsewhere,
 * an event per line of JSON; nothing but failures where it is to be quiet. Everything but JSON goes to standard error.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Printable from "../../domain/Printable.ts"
import * as Progress from "../../domain/Progress.ts"
import type { TransferError } from "../../domain/TransferError.ts"
import type * as TransferEvent from "../TransferEvent.ts"
import { ExitCode, Failure } from "./Failure.ts"
import * as Files from "./FilesCommon.ts"
import * as Output from "./Output.ts"

/** Milliseconds between two drawings. */
const DRAW_MS = 100
const CLEAR = "\r\u001b[K"
const COMPARING = "comparing "

export interface Options {
  readonly json: boolean
  readonly quiet: boolean
}

/** All that came of one or more transfers. */
export interface Sum {
  files: number
  same: number
  skipped: number
  failed: number
  /** Bytes that went over the line. */
  moved: number
  /** Code of the first failure. */
  code: ExitCode
}

const none = (): Sum => ({ files: 0, same: 0, skipped: 0, failed: 0, moved: 0, code: ExitCode.Ok })

export type Called = (way: { readonly from: string; readonly to: string }) => string

export interface Show {
  readonly sum: Sum
  /** Runs a transfer to its end, showing it. `called`: what people are told a file is called. */
  readonly run: <R>(
    events: Stream.Stream<TransferEvent.Event, TransferError, R>,
    called: Called
  ) => Effect.Effect<void, Failure, R>
  /** Counts and tells a file that needs no transfer. */
  readonly same: (item: TransferEvent.Item) => Effect.Effect<void>
  /** A line above what is drawn. */
  readonly note: (text: string) => Effect.Effect<void>
  /** Takes the drawn line away while a question is asked. */
  readonly aside: <A>(ask: Effect.Effect<A>) => Effect.Effect<A>
  /** The last line, and the failure that it may have come to. */
  readonly end: Effect.Effect<void, Failure>
}

/** What interrupting a transfer leaves behind. */
export const KEPT = "stopped: what has arrived is kept for three days, and the same command goes on from there"

export const make = Effect.fnUntraced(function* ({ json, quiet }: Options) {
  const sum = none()
  const isDrawing = process.stderr.isTTY && !json && !quiet
  const started = yield* Clock.currentTimeMillis
  const meter = new Progress.Meter(started)
  /** Bytes of the files under way, by source, and of all that are done. */
  const active = new Map<string, { bytes: number; from: number; readonly size: number | null }>()
  /** Sources that are compared and not yet sent. */
  const compared = new Set<string>()
  let done = 0
  let current: string | undefined
  let called: Called = ({ to }) => to
  /** What the file under way is called. */
  let shown = ""
  let isAside = false
  let isDrawn = false

  const write = (text: string): Effect.Effect<void> =>
    Effect.sync(() => {
      process.stderr.write(text)
    })
  const erased = Effect.suspend(() => {
    if (!isDrawn) return Effect.void
    isDrawn = false
    return write(CLEAR)
  })
  const note = (text: string): Effect.Effect<void> => Effect.andThen(erased, Output.note(Printable.line(text)))
  const say = (text: string): Effect.Effect<void> => (quiet || json ? Effect.void : note(text))

  const draw = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    let bytes = done
    for (const each of active.values()) bytes += each.bytes - each.from
    meter.add(now, bytes)
    if (isAside || current === undefined) return
    const file = active.get(current)
    const columns = Math.max(20, (process.stderr.columns ?? 80) - 1)
    const line = compared.has(current)
      ? `${COMPARING}${Progress.tail(Printable.line(shown), columns - COMPARING.length)}`
      : Progress.line(
          {
            path: shown,
            bytes: file?.bytes ?? 0,
            size: file?.size ?? null,
            rate: meter.rate(now),
            files: sum.files + sum.same
          },
          columns
        )
    isDrawn = true
    yield* write(`${CLEAR}${line}`)
  })

  const tell = (way: { readonly from: string; readonly to: string }): void => {
    current = way.from
    shown = called(way)
  }

  const finish = (from: string): void => {
    const file = active.get(from)
    if (file !== undefined) done += file.bytes - file.from
    active.delete(from)
    compared.delete(from)
  }

  const words: (event: TransferEvent.Event) => string | undefined = (event) => {
    switch (event._tag) {
      case "Started":
        compared.delete(event.from)
        if (current === undefined || !active.has(current)) tell(event)
        if (!active.has(event.from)) active.set(event.from, { bytes: 0, from: 0, size: event.size })
        return undefined
      case "Comparing":
        compared.add(event.from)
        if (current === undefined || !active.has(current)) tell(event)
        return undefined
      case "Resuming":
        compared.delete(event.from)
        active.set(event.from, {
          bytes: event.offset,
          from: event.offset,
          size: active.get(event.from)?.size ?? null
        })
        return `resuming ${called(event)} at ${Progress.size(event.offset)}`
      case "Progress": {
        const file = active.get(event.from) ?? { bytes: 0, from: 0, size: event.size }
        active.set(event.from, { ...file, bytes: event.bytes, size: event.size })
        compared.delete(event.from)
        tell(event)
        return undefined
      }
      case "Done":
        if (!active.has(event.from)) done += event.moved
        finish(event.from)
        tell(event)
        sum.files++
        sum.moved += event.moved
        return isDrawing ? undefined : `${called(event)}  ${Progress.size(event.size)}`
      case "Same":
        finish(event.from)
        sum.same++
        if (event.touched === false) return `${called(event)}  is the same already, but for its time or mode`
        return isDrawing
          ? undefined
          : `${called(event)}  is the same already${event.touched === true ? ", and now of the same time and mode" : ""}`
      case "Skipped":
        finish(event.from)
        sum.skipped++
        return `${called(event)}  skipped: it is there already`
      case "Folder":
        return undefined
      case "Failed":
        finish(event.from)
        sum.failed++
        if (sum.code === ExitCode.Ok) sum.code = Files.codeOf(event.reason)
        return undefined
      case "Reconnecting":
        return `the line was lost (${event.message}); trying again`
    }
  }

  const take = Effect.fnUntraced(function* (events: ReadonlyArray<TransferEvent.Event>) {
    const lines: Array<string> = []
    for (const event of events) {
      const text = words(event)
      if (text !== undefined) lines.push(Printable.line(text))
      if (event._tag === "Failed") {
        yield* note(`clawchat: ${Files.placed(event.message, event.reason, event.side)}`)
      }
    }
    if (json) yield* Output.line(events.map((event) => Printable.json(event)).join("\n"))
    else if (!quiet && lines.length > 0) yield* Effect.andThen(erased, Output.note(lines.join("\n")))
  })

  const run: Show["run"] = (events, names) => {
    called = names
    const all = Effect.mapError(Stream.runForEachArray(events, take), Files.transferFailure)
    const drawn = isDrawing ? Effect.raceFirst(all, Effect.forever(Effect.delay(draw, DRAW_MS))) : all
    return drawn.pipe(
      Effect.ensuring(erased),
      Effect.onInterrupt(() => (quiet ? Effect.void : Output.note(KEPT)))
    )
  }

  const aside: Show["aside"] = (ask) =>
    Effect.andThen(
      Effect.tap(erased, () =>
        Effect.sync(() => {
          isAside = true
        })
      ),
      Effect.ensuring(
        ask,
        Effect.sync(() => {
          isAside = false
        })
      )
    )

  const end = Effect.gen(function* () {
    const ms = Math.max(1, (yield* Clock.currentTimeMillis) - started)
    const parts = [
      `${sum.files} file${sum.files === 1 ? "" : "s"}`,
      `${Progress.size(sum.moved)} in ${Progress.clock(ms)}, ${Progress.size((sum.moved * 1000) / ms)}/s`,
      ...(sum.same > 0 ? [`${sum.same} the same already`] : []),
      ...(sum.skipped > 0 ? [`${sum.skipped} skipped`] : []),
      ...(sum.failed > 0 ? [`${sum.failed} failed`] : [])
    ]
    if (sum.files + sum.same + sum.skipped + sum.failed > 0) yield* say(parts.join("; "))
    if (sum.failed > 0) {
      return yield* new Failure({
        code: sum.code,
        message: sum.failed === 1 ? "one file failed" : `${sum.failed} files failed`
      })
    }
  })
  const same: Show["same"] = ({ from, size = 0, to }) => take([{ _tag: "Same", from, to, size }])
  const show: Show = { sum, run, same, note: say, aside, end }
  return show
})
