/** What the commands below `clawchat files` share: the server's lists, exit codes, and how names are shown. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { RpcClientError } from "effect/rpc/RpcClientError"
import * as Printable from "../../domain/Printable.ts"
import { FilesError, type Reason } from "../../domain/RemoteFile.ts"
import * as RemotePath from "../../domain/RemotePath.ts"
import { TransferError, type Reason as TransferReason } from "../../domain/TransferError.ts"
import { parsePath, type TouchOptions } from "../../services/FileTree.ts"
import type { ServerClient } from "../ClientLink.ts"
import type * as FileWalk from "../FileWalk.ts"
import * as LostLine from "../LostLine.ts"
import type { Side } from "../TransferEvent.ts"
import * as Common from "./Common.ts"
import { denied, ExitCode, Failure, failed, notFound, usage } from "./Failure.ts"
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

/** What was said about files, and whose they are; a refused name and a side that is busy need no place. */
export const placed = (message: string, reason: Reason | TransferReason, side: Side | undefined): string => {
  if (side === undefined || reason === "BadName" || reason === "Busy") return message
  return `${message} ${side === "here" ? "(here)" : "(on the server)"}`
}

const failureOn =
  (side?: Side) =>
  (error: RemoteError): Failure =>
    error._tag === "FilesError"
      ? new Failure({
          code: codeOf(error.reason),
          message: Printable.line(placed(error.message, error.reason, side))
        })
      : Tier.lost(error)

export const failure = failureOn()
/** Where both sides have files: this host's, and the server's. */
export const failureHere = failureOn("here")
export const failureThere = failureOn("server")

/** What this host answers about a path that the user named, by its code. */
export const hostFailure = (said: string, code: string): Failure => {
  const about = (why: string): string => Printable.line(`${JSON.stringify(said)}: ${why}`)
  switch (code) {
    case "EACCES":
    case "EPERM":
      return denied(about("permission denied (here)"))
    case "ENOENT":
    case "ENOTDIR":
    case "ENAMETOOLONG":
      return notFound(about("no such file or folder (here)"))
    default:
      return failed(about(`this host cannot read it (${code || "unknown"})`))
  }
}

/** What ended a transfer, which may be the server's own words. */
export const transferFailure = ({ message, reason, side }: TransferError): Failure => {
  const text = placed(message, reason, side === "there" ? "server" : side)
  return new Failure({ code: codeOf(reason), message: Printable.line(text) })
}

/** What the server said to a call, as the transfer's own failure. */
export const transferError = (error: RemoteError, side: "here" | "there" = "there"): TransferError =>
  error._tag === "FilesError"
    ? new TransferError({ reason: error.reason, message: error.message, side })
    : new TransferError({ reason: "Lost", message: LostLine.LOST })

/** What this host's files said, as the transfer's own failure. */
export const transferErrorHere = (error: RemoteError): TransferError => transferError(error, "here")

/** Things of a tree that no transfer carries. */
export interface Left {
  readonly add: (path: string, why: "link" | "other" | "unread" | "unnamed", count: number) => void
  /** Tells of them, then of the whole; folders that could not be read make the command fail where nothing else did. */
  readonly end: <E>(quiet: boolean, whole: Effect.Effect<void, E>) => Effect.Effect<void, E | Failure>
}

const LEFT = {
  link: ["link was left out", "links were left out"],
  other: ["special file was left out", "special files were left out"],
  unread: ["folder cannot be read", "folders cannot be read"],
  unnamed: ["name that cannot be written was left out", "names that cannot be written were left out"]
} as const

export const makeLeft = (): Left => {
  const counts = new Map<keyof typeof LEFT, { count: number; readonly first: string }>()
  return {
    add: (path, why, count) => {
      const known = counts.get(why)
      if (known === undefined) counts.set(why, { count, first: path })
      else known.count += count
    },
    end: Effect.fnUntraced(function* <E>(quiet: boolean, whole: Effect.Effect<void, E>) {
      let unread: string | undefined
      for (const [why, { count, first }] of counts) {
        const which = why === "unnamed" ? "in" : count === 1 ? "namely" : "the first"
        const text = Printable.line(`${count} ${LEFT[why][count === 1 ? 0 : 1]}, ${which} ${JSON.stringify(first)}`)
        if (why === "unread") unread = text
        else if (!quiet) yield* Output.note(text)
      }
      if (unread === undefined) return yield* whole
      yield* Effect.tapError(whole, () => Output.note(`clawchat: ${unread}`))
      return yield* failed(unread)
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
    "Files.Touch": (payload: Payload<"Files.Touch">) => soon(() => server["Files.Touch"](payload), payload.path),
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

/** What a server answers that is older than a procedure. */
const isUnknown = (defect: unknown): boolean => String(defect).includes("Unknown request tag")

/** Gives a file of the server another time and mode; `Unsupported` where the server is too old to know how. */
export const touch =
  (server: Pick<ReturnType<typeof patient>, "Files.Touch">) =>
  (path: string, to: TouchOptions): Effect.Effect<unknown, TransferError> =>
    server["Files.Touch"]({ path, ...to, mtimeMs: Math.max(0, to.mtimeMs) }).pipe(
      Effect.mapError((error) => transferError(error)),
      Effect.catchDefect((defect) =>
        isUnknown(defect)
          ? Effect.fail(
              new TransferError({ reason: "Unsupported", message: "this server sets no times", side: "there" })
            )
          : Effect.die(defect)
      )
    )

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
  if (unnamed > 0) {
    const what =
      unnamed === 1
        ? "entry has a name that cannot be shown and was"
        : "entries have names that cannot be shown and were"
    yield* Output.note(`${unnamed} ${what} left out`)
  }
  for (const path of unread)
    yield* Output.note(Printable.line(`${JSON.stringify(path)} cannot be read and was left out`))
})

/** An empty path is a variable that was never set, not the folder that it would stand for. */
export const refuseEmpty = (paths: ReadonlyArray<string>): Effect.Effect<void, Failure> =>
  paths.includes("") ? Effect.fail(usage("a path is empty; the base is /, the current folder .")) : Effect.void

/** A path of the server in the one way that its answers write it; what is none stays as it is, and is refused later. */
export const canonical = (path: string): string => {
  const parsed = RemotePath.parse(path)
  return Result.isSuccess(parsed) ? RemotePath.format(parsed.success) : path
}

/** Several things to do, each whatever becomes of the others. */
export interface Tries {
  /** Does one of them. */
  readonly run: <R>(act: Effect.Effect<void, RemoteError, R>) => Effect.Effect<void, never, R>
  /** Finds out which they are; nothing when that fails, which counts as one that failed. */
  readonly find: <A, R>(
    search: Effect.Effect<ReadonlyArray<A>, RemoteError, R>
  ) => Effect.Effect<ReadonlyArray<A>, never, R>
  /** Fails if one has failed, with the code of the first. */
  readonly end: Effect.Effect<void, Failure>
}

/** Each failure is told as it happens; if there was but one thing to do, as what the command ends with. */
export const makeTries = (side?: Side): Tries => {
  const failure = failureOn(side)
  const failures: Array<Failure> = []
  let done = 0
  let held: Failure | undefined
  /** What failed first, once it is not all that there was to do. */
  const told = Effect.suspend(() => {
    const failure = held
    held = undefined
    return failure === undefined ? Effect.void : Output.note(`clawchat: ${failure.message}`)
  })
  const fail = (error: RemoteError): Effect.Effect<void> => {
    const mapped = failure(error)
    failures.push(mapped)
    if (failures.length + done > 1) return Effect.andThen(told, Output.note(`clawchat: ${mapped.message}`))
    held = mapped
    return Effect.void
  }
  return {
    run: (act) =>
      Effect.matchEffect(act, {
        onFailure: fail,
        onSuccess: () => {
          done++
          return told
        }
      }),
    find: (search) => Effect.catch(search, (error) => Effect.as(fail(error), [])),
    end: Effect.gen(function* () {
      const [first] = failures
      const count = failures.length + done
      if (first === undefined) return
      if (count === 1) return yield* first
      return yield* new Failure({ code: first.code, message: `${failures.length} of ${count} failed` })
    })
  }
}

/** Does the same to several things, each whatever became of the others; the first failure is the exit code. */
export const eachOf = Effect.fnUntraced(function* <A, R>(
  all: ReadonlyArray<A>,
  act: (one: A) => Effect.Effect<void, RemoteError, R>,
  side?: Side
) {
  const tries = makeTries(side)
  yield* Effect.forEach(all, (one) => tries.run(act(one)), { discard: true })
  yield* tries.end
})
