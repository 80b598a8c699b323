/** Results go to stdout, everything else to stderr; a reader that has gone away ends the program quietly. */
import * as Effect from "effect/Effect"
import * as TextTable from "../../domain/TextTable.ts"

const write = (stream: NodeJS.WriteStream, text: string): Effect.Effect<void> =>
  Effect.callback((resume) => {
    stream.write(text, () => resume(Effect.void))
  })

/** A line of the result. */
export const line = (text: string): Effect.Effect<void> => write(process.stdout, `${text}\n`)

/** One JSON value, the whole result. */
export const json = (value: unknown): Effect.Effect<void> => line(JSON.stringify(value, undefined, 2))

export const bytes = (content: Uint8Array): Effect.Effect<void> =>
  Effect.callback((resume) => {
    process.stdout.write(content, () => resume(Effect.void))
  })

/** A line for people beside the result. */
export const note = (text: string): Effect.Effect<void> => write(process.stderr, `${text}\n`)

export const table = TextTable.table
