/** What the commands below `clawchat files` share: the server's lists, exit codes, and how names are shown. */
import * as Effect from "effect/Effect"
import type { RpcClientError } from "effect/rpc/RpcClientError"
import * as Printable from "../../domain/Printable.ts"
import type { FilesError, Reason } from "../../domain/RemoteFile.ts"
import { TransferError, type Reason as TransferReason } from "../../domain/TransferError.ts"
import type { ServerClient } from "../ClientLink.ts"
import type * as FileWalk from "../FileWalk.ts"
import * as LostLine from "../LostLine.ts"
import * as Common from "./Common.ts"
import { ExitCode, Failure, failed } from "./Failure.ts"
import * as Output from "./Output.ts"
import * as Tier from "./Tier.ts"

export interface Input extends Common.Globals {
  readonly json: boolean
  readonly quiet: boolean
  readonly timeout: number
}

export type RemoteError = FilesError | RpcClientError

/** What one refusal means to a script; `reason` is the store's or a transfer's. */
export const codeOf = (reason: Reason | TransferReason): ExitCode => {
  switch (reason) {
    case "NotFound":
      return ExitCode.NotFound
    case "Denied":
    case "ReadOnly":
      return ExitCode.Denied
    case "BadName":
      return ExitCode.Usage
    case "Busy":
      return ExitCode.TryAgain
    case "Lost":
      return ExitCode.Unreachable
    case "Stopped":
      return ExitCode.Interrupted
    default:
      return ExitCode.Failed
  }
}

export const failure = (error: RemoteError): Failure =>
  error._tag === "FilesError"
    ? new Failure({ code: codeOf(error.reason), message: Printable.line(error.message) })
    : Tier.lost(error)

/** A list that broke off, as the transfer's own failure. */
export const transferError = (error: RemoteError): TransferError =>
  error._tag === "FilesError"
    ? new TransferError({ reason: error.reason, message: error.message })
    : new TransferError({ reason: "Lost", message: LostLine.LOST })

/** Things of a tree that no transfer carries. */
export interface Left {
  readonly add: (path: string, why: "link" | "other" | "unread" | "unnamed") => void
  /** Tells of them; folders that could not be read make the command fail. */
  readonly end: (quiet: boolean) => Effect.Effect<void, Failure>
}

const LEFT = {
  link: "links were left out",
  other: "special files were left out",
  unread: "folders cannot be read",
  unnamed: "names that cannot be written were left out"
} as const

export const makeLeft = (): Left => {
  const counts = new Map<keyof typeof LEFT, { count: number; readonly first: string }>()
  return {
    add: (path, why) => {
      const known = counts.get(why)
      if (known === undefined) counts.set(why, { count: 1, first: path })
      else known.count++
    },
    end: Effect.fnUntraced(function* (quiet: boolean) {
      for (const [why, { count, first }] of counts) {
        const text = `${count} ${LEFT[why]}, ${why === "unnamed" ? "in" : "the first"} ${JSON.stringify(first)}`
        if (why === "unread") return yield* failed(Printable.line(text))
        if (!quiet) yield* Output.note(Printable.line(text))
      }
    })
  }
}

/** The lists of the server. */
export const remotePages = (server: ServerClient): FileWalk.Pages<RemoteError> => ({
  list: (path, cursor) => server["Files.List"](cursor === undefined ? { path } : { path, cursor }),
  walk: (path, cursor, depth) =>
    server["Files.Find"]({
      path,
      ...(cursor === undefined ? {} : { cursor }),
      ...(depth === undefined ? {} : { depth })
    }),
  stat: (path) => server["Files.Stat"]({ path })
})

/** One connection of a command that asks a few things. */
export const connect = Effect.fnUntraced(function* (input: Input) {
  const values = yield* Common.settings("client", Common.globalFlags(input))
  const { connection, server } = yield* Tier.remote(values, input.timeout)
  return { connection, server, pages: remotePages(server) }
})

/** A name for people at a terminal, where it may not steer; in a pipe every byte of it. */
export const shown = (name: string): string => (process.stdout.isTTY ? Printable.line(name) : name)

/** The last name of a path; empty for the base. */
export const nameOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1)

/** What was left out of a list. */
export const leftOut = Effect.fnUntraced(function* (unnamed: number, unread: ReadonlyArray<string>) {
  if (unnamed > 0) yield* Output.note(`${unnamed} entries have names that cannot be shown and were left out`)
  for (const path of unread)
    yield* Output.note(Printable.line(`${JSON.stringify(path)} cannot be read and was left out`))
})

/** Does the same to several paths, each whatever became of the others; the first failure is the exit code. */
export const eachOf = Effect.fnUntraced(function* <A, R>(
  all: ReadonlyArray<A>,
  act: (one: A) => Effect.Effect<void, RemoteError, R>
) {
  const failures: Array<Failure> = []
  yield* Effect.forEach(
    all,
    (one) =>
      Effect.catch(act(one), (error) => {
        const mapped = failure(error)
        failures.push(mapped)
        return all.length === 1 ? Effect.void : Output.note(`clawchat: ${mapped.message}`)
      }),
    { discard: true }
  )
  const [first] = failures
  if (first === undefined) return
  if (all.length === 1) return yield* first
  return yield* new Failure({ code: first.code, message: `${failures.length} of ${all.length} failed` })
})
