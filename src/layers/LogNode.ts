/** Log lines for people: to stderr, and to a file that is rotated by size. Journals add their own time stamps, files ours. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as LogLevel from "effect/LogLevel"
import * as References from "effect/References"
import { RotatingFile } from "./RotatingFile.ts"

export interface Options {
  readonly level: "trace" | "debug" | "info" | "warning" | "error"
  /** Absolute; `undefined` for none. */
  readonly file: string | undefined
  readonly maxSizeBytes: number
  /** Full files that are kept, as `NAME.1` (the newest) to `NAME.N`. */
  readonly backupCount: number
  /** Whether lines go to stderr too. */
  readonly stderr: boolean
}

const LEVELS: Record<Options["level"], LogLevel.LogLevel> = {
  trace: "Trace",
  debug: "Debug",
  info: "Info",
  warning: "Warn",
  error: "Error"
}

/** One line whatever the message: control characters could forge lines or drive a terminal. */
const oneLine = (message: string): string => message.replace(/\p{Cc}+/gu, " ").trim()

const textOf = (message: unknown, cause: Cause.Cause<unknown>): string => {
  const parts = Array.isArray(message) ? message : [message]
  const words = parts.map((part) =>
    typeof part === "string" ? part : part instanceof Error ? part.message : JSON.stringify(part)
  )
  if (cause.reasons.length > 0) words.push(Cause.pretty(cause))
  return oneLine(words.join(" "))
}

/** A log that cannot be written must not stop the program. */
const writeTo = (file: RotatingFile, line: string): void => {
  try {
    file.write(line)
  } catch {
    // Nobody is left who could be told.
  }
}

/** Replaces Effect's console logger. */
export const layer = (options: Options): Layer.Layer<never> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const { file, level } = options
      const log =
        file === undefined
          ? undefined
          : yield* Effect.acquireRelease(
              Effect.try({ try: () => new RotatingFile(file, options), catch: (cause) => cause }),
              (opened) => Effect.sync(() => opened.close())
            ).pipe(
              Effect.catch((cause) =>
                Effect.sync(() => {
                  process.stderr.write(`warning: no log file: ${oneLine(String(cause))}\n`)
                  return undefined
                })
              )
            )
      const logger = Logger.make<unknown, void>(({ cause, date, logLevel, message }) => {
        const text = textOf(message, cause)
        if (options.stderr) process.stderr.write(`${logLevel.toLowerCase()}: ${text}\n`)
        if (log !== undefined) writeTo(log, `${date.toISOString()} ${logLevel.toLowerCase()} ${text}\n`)
      })
      // --log-level, where it was given, is in force already.
      const given = yield* References.MinimumLogLevel
      const minimum = given === "Info" ? LEVELS[level] : given
      return Layer.mergeAll(Logger.layer([logger]), Layer.succeed(References.MinimumLogLevel, minimum))
    })
  )
