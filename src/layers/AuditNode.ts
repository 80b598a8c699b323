/** The record in a file of JSON lines, 0600, which begins anew when it is full. Nothing is made before there is something to write. */
import * as Fs from "node:fs"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as AuditEvent from "../domain/AuditEvent.ts"
import { Audit, AuditError, matches, stamp } from "../services/Audit.ts"
import { names, RotatingFile } from "./RotatingFile.ts"

/** Bytes of one file, and how many full ones are kept: 20 MiB in all, some 80,000 records. */
const MAX_SIZE_BYTES = 4 * 1024 * 1024
const BACKUP_COUNT = 4
/** Bytes read of a file that another hand made longer. */
const MAX_READ_BYTES = 2 * MAX_SIZE_BYTES

const encode = Schema.encodeSync(AuditEvent.Line)
const decode = Schema.decodeUnknownOption(AuditEvent.Line)

const codeOf = (cause: unknown): string =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : ""

/** The file's end, at most `MAX_READ_BYTES` of it; nothing where there is none. */
const readEnd = async (path: string): Promise<string> => {
  const { O_NOFOLLOW = 0, O_NONBLOCK = 0, O_RDONLY } = Fs.constants
  const handle = await Fs.promises.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    const stats = await handle.stat()
    if (!stats.isFile()) return ""
    const length = Math.min(stats.size, MAX_READ_BYTES)
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, stats.size - length)
    return buffer.toString("utf8", 0, bytesRead)
  } finally {
    await handle.close()
  }
}

const linesOf = (path: string): Effect.Effect<ReadonlyArray<string>, AuditError> =>
  Effect.tryPromise({ try: () => readEnd(path), catch: (cause) => cause }).pipe(
    Effect.catch((cause) => {
      const code = codeOf(cause)
      if (code === "ENOENT") return Effect.succeed("")
      const denied = code === "EACCES" || code === "EPERM"
      const message = denied
        ? `${path} may not be read by this user: run this as the server's`
        : `${path} cannot be read: ${code || "input/output error"}`
      return Effect.fail(new AuditError({ reason: denied ? "Denied" : "Io", message }))
    }),
    Effect.map((text) => text.split("\n"))
  )

export interface Options {
  readonly maxSizeBytes?: number
  readonly backupCount?: number
}

/** The log at `path`, absolute. One process at a time may append; any number may read. */
export const layer = (
  path: string,
  { backupCount = BACKUP_COUNT, maxSizeBytes = MAX_SIZE_BYTES }: Options = {}
): Layer.Layer<Audit> =>
  Layer.effect(
    Audit,
    Effect.gen(function* () {
      let file: RotatingFile | undefined
      let fails = false
      yield* Effect.addFinalizer(() => Effect.sync(() => file?.close()))

      const append = (record: AuditEvent.Record): Effect.Effect<void> =>
        Effect.try({
          try: () => {
            file ??= new RotatingFile(path, { maxSizeBytes, backupCount, strict: true })
            file.write(`${encode(record)}\n`)
            fails = false
          },
          catch: (cause) => cause
        }).pipe(
          Effect.catch((cause) => {
            // The next one tries the file anew; its trouble is told once.
            const told = fails
            fails = true
            return told ? Effect.void : Effect.logError(`${path}: events are not put on record: ${codeOf(cause)}`)
          })
        )

      const read: Audit["Service"]["read"] = Effect.fn("Audit.read")(function* (query) {
        const wanted = matches(query)
        const since = query.sinceMs === undefined ? "" : stamp(query.sinceMs)
        const found: Array<AuditEvent.Record> = []
        for (const name of names(path, backupCount)) {
          const lines = yield* linesOf(name)
          for (let i = lines.length - 1; i >= 0; i--) {
            if (found.length >= query.limit) return found.reverse()
            // Lines that a crash cut short are none.
            const record = Option.getOrUndefined(decode(lines[i]))
            if (record === undefined) continue
            if (wanted(record)) found.push(record)
          }
          const oldest = Option.getOrUndefined(decode(lines.find((line) => line !== "")))
          if (oldest !== undefined && oldest.at < since) break
        }
        return found.reverse()
      })

      return Audit.of({ append, read })
    })
  )
