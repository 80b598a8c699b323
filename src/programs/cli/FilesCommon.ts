/** What the commands below `clawchat files` share: the server's lists, exit codes, and how names are shown. */
import * as Effect from "effect/Effect"
import type { RpcClientError } from "effect/rpc/RpcClientError"
import * as Printable from "../../domain/Printable.ts"
import { FilesError, type Reason } from "../../domain/RemoteFile.ts"
import { TransferError, type Reason as TransferReason } from "../../domain/TransferError.ts"
import { parsePath } from "../../services/FileTree.ts"
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
  /** Milliseconds to try to connect, and to wait for a server that is there and says nothing. */
  readonly timeout: { readonly connectMs: number; readonly silentMs: number }
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
    case "Idle":
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

/** What ended a transfer, which may be the server's own words. */
export const transferFailure = ({ message, reason }: TransferError): Failure =>
  new Failure({ code: codeOf(reason), message: Printable.line(message) })

/** A list that broke off, as the transfer's own failure. */
export const transferError = (error: RemoteError): TransferError =>
  error._tag === "FilesError"
    ? new TransferError({ reason: error.reason, message: error.message })
    : new TransferError({ reason: "Lost", message: LostLine.LOST })

/** Things of a tree that no transfer carries. */
export interface Left {
  readonly add: (path: string, why: "link" | "other" | "unread" | "unnamed", count: number) => void
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
    add: (path, why, count) => {
      const known = counts.get(why)
      if (known === undefined) counts.set(why, { count, first: path })
      else known.count += count
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

/** Milliseconds for what takes as long as there is to do, at least. */
const WORK_MS = 3_600_000

/**
 * The server's procedures, for those who do not wait for ever: a call without an answer fails with `Busy`. Paths that the server
 * would refuse are refused here, in the same words: the longest would fit into no call.
 */
export const patient = (server: ServerClient, silentMs: number) => {
  const within =
    (ms: number) =>
    <A, E>(call: () => Effect.Effect<A, E>, ...paths: ReadonlyArray<string>): Effect.Effect<A, E | FilesError> => {
      const answer = Effect.timeoutOrElse(Effect.suspend(call), {
        duration: ms,
        orElse: () => {
          const message = `the server has been silent for ${ms / 1000} s: try again, or wait longer with --timeout SECONDS`
          return Effect.fail(new FilesError({ reason: "Busy", message }))
        }
      })
      return Effect.andThen(Effect.forEach(paths, parsePath, { discard: true }), answer)
    }
  type Payload<Tag extends keyof ServerClient> = Parameters<ServerClient[Tag]>[0]
  const soon = within(silentMs)
  const late = within(Math.max(WORK_MS, silentMs))
  return {
    "Files.List": (payload: Payload<"Files.List">) => soon(() => server["Files.List"](payload), payload.path),
    "Files.Stat": (payload: Payload<"Files.Stat">) => soon(() => server["Files.Stat"](payload), payload.path),
    "Files.Find": (payload: Payload<"Files.Find">) => soon(() => server["Files.Find"](payload), payload.path),
    "Files.Du": (payload: Payload<"Files.Du">) => late(() => server["Files.Du"](payload), payload.path),
    "Files.Mkdir": (payload: Payload<"Files.Mkdir">) => soon(() => server["Files.Mkdir"](payload), payload.path),
    "Files.Remove": (payload: Payload<"Files.Remove">) => late(() => server["Files.Remove"](payload), payload.path),
    "Files.Move": (payload: Payload<"Files.Move">) =>
      late(() => server["Files.Move"](payload), payload.from, payload.to),
    "Files.Copy": (payload: Payload<"Files.Copy">) =>
      late(() => server["Files.Copy"](payload), payload.from, payload.to),
    "Files.Digest": (payload: Payload<"Files.Digest">) => late(() => server["Files.Digest"](payload), payload.path),
    "Files.TrashList": (payload: Payload<"Files.TrashList">) => soon(() => server["Files.TrashList"](payload)),
    "Files.TrashRestore": (payload: Payload<"Files.TrashRestore">) =>
      late(() => server["Files.TrashRestore"](payload), ...(payload.to === undefined ? [] : [payload.to])),
    "Files.TrashEmpty": (payload: Payload<"Files.TrashEmpty">) => late(() => server["Files.TrashEmpty"](payload))
  }
}

/** The lists of the server. */
export const remotePages = (server: ReturnType<typeof patient>): FileWalk.Pages<RemoteError> => ({
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
  const { connection, server: all } = yield* Tier.remote(values, input.timeout.connectMs)
  const server = patient(all, input.timeout.silentMs)
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
