/** Standard output and error of this process, kept from whoever looks, while a test runs what writes there. */
import { PassThrough } from "node:stream"
import * as Effect from "effect/Effect"

export interface Console {
  out: string
  err: string
  /** What a person types. */
  readonly input: PassThrough
}

interface Options {
  readonly isTerminal?: boolean
  readonly columns?: number
}

const replace = (target: object, name: string, value: unknown): (() => void) => {
  const before = Object.getOwnPropertyDescriptor(target, name)
  Object.defineProperty(target, name, { value, configurable: true, writable: true })
  return () => {
    if (before === undefined) Reflect.deleteProperty(target, name)
    else Object.defineProperty(target, name, before)
  }
}

/** Until the scope closes; output calls back at once. */
export const make = ({ columns = 80, isTerminal = false }: Options = {}) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const input = new PassThrough()
        const console: Console = { out: "", err: "", input }
        const writer = (name: "out" | "err") => (text: string | Uint8Array, done?: () => void) => {
          console[name] += typeof text === "string" ? text : Buffer.from(text).toString()
          done?.()
          return true
        }
        const undo = [
          replace(process.stdout, "write", writer("out")),
          replace(process.stderr, "write", writer("err")),
          replace(process.stdout, "isTTY", isTerminal),
          replace(process.stderr, "isTTY", isTerminal),
          replace(process.stderr, "columns", columns),
          replace(input, "isTTY", isTerminal),
          replace(process, "stdin", input)
        ]
        return { console, undo }
      }),
      ({ undo }) =>
        Effect.sync(() => {
          for (const each of undo.toReversed()) each()
        })
    ),
    ({ console }) => console
  )
