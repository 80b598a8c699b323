/** `clawchat files sync`: makes a folder on the server equal to one on this host, or the other way round. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Printable from "../../domain/Printable.ts"
import { FilesError } from "../../domain/RemoteFile.ts"
import * as SyncPlan from "../../domain/SyncPlan.ts"
import { LocalFolders } from "../../services/LocalFolders.ts"
import * as FileWalk from "../FileWalk.ts"
import type * as TransferEvent from "../TransferEvent.ts"
import * as Transfers from "../Transfers.ts"
import { failed } from "./Failure.ts"
import * as Files from "./FilesCommon.ts"
import * as FilesLink from "./FilesLink.ts"
import * as FilesShow from "./FilesShow.ts"
import * as FilesTransfer from "./FilesTransfer.ts"
import * as Output from "./Output.ts"

export interface Input extends Files.Input {
  readonly local: string
  readonly remote: string
  readonly back: boolean
  readonly delete: boolean
  readonly dryRun: boolean
  readonly checksum: boolean
  readonly delta: FilesLink.Delta
}

interface Side {
  readonly tree: SyncPlan.Tree
  /** Folders that could not be read. */
  readonly unread: ReadonlyArray<string>
  /** Names that could not be said. */
  readonly unnamed: number
}

const nothing: Side = { tree: new Map(), unread: [], unnamed: 0 }

/** A target that is not there is empty. A source is there: one that went away meanwhile would empty the target. */
const tree = <E>(pages: FileWalk.Pages<E>, path: string, isTarget: boolean) =>
  Effect.catchIf(
    FileWalk.tree(pages, path),
    (error) => isTarget && error instanceof FilesError && error.reason === "NotFound",
    () => Effect.succeed(nothing)
  )

/** What would be done, one line each: `+` new, `*` changed, `?` to be compared, `-` removed, `!` in the way. */
const told = (plan: SyncPlan.Plan, source: Side, target: Side, { checksum }: Input): ReadonlyArray<string> => [
  ...plan.cleared.map((path) => `- ${path}`),
  ...plan.folders.map((path) => `+ ${path}/`),
  ...plan.files.map(({ isNew, path }) => {
    const isOpen = checksum && source.tree.get(path)?.size === target.tree.get(path)?.size
    return `${isNew ? "+" : isOpen ? "?" : "*"} ${path}`
  }),
  ...plan.removed.map((path) => `- ${path}${target.tree.get(path)?.kind === "folder" ? "/" : ""}`),
  ...plan.blocked.map((path) => `! ${path}`)
]

const itemsOf = (
  plan: SyncPlan.Plan,
  source: Side,
  way: (path: string) => Pick<TransferEvent.Item, "from" | "to">
): ReadonlyArray<TransferEvent.Item> => [
  ...plan.folders.map((path): TransferEvent.Item => ({ ...way(path), kind: "folder" })),
  ...plan.files.map(
    ({ path, ...rest }): TransferEvent.Item => ({
      ...way(path),
      kind: "file",
      mtimeMs: source.tree.get(path)?.mtimeMs ?? 0,
      ...rest
    })
  )
]

const count = (n: number, one: string): string => `${n} ${one}${n === 1 ? "" : "s"}`

export const sync = Effect.fnUntraced(
  function* (input: Input) {
    yield* Files.refuseEmpty([input.local, input.remote])
    const { deltas, digest, open, pages, server, touch } = yield* FilesLink.make(input)
    const folders = yield* LocalFolders
    const remote = Files.canonical(input.remote)
    // Before the folder here is made.
    if (input.back) yield* Effect.mapError(pages.stat(remote), Files.failureThere)
    const local = yield* folders
      .open(input.local, { readOnly: !input.back || input.dryRun, make: input.back && !input.dryRun })
      .pipe(
        Effect.catchIf(
          ({ reason }) => input.back && input.dryRun && reason === "NotFound",
          () => Effect.succeed(undefined)
        ),
        Effect.mapError(Files.failureHere)
      )
    const ends = [
      local === undefined
        ? Effect.succeed(nothing)
        : Effect.mapError(tree(FileWalk.pagesOf(local), "", input.back), Files.failureHere),
      Effect.mapError(tree(pages, remote, !input.back), Files.failureThere)
    ] as const
    const [here, there] = yield* Effect.all(ends, { concurrency: "unbounded" })
    const [source, target] = input.back ? [there, here] : [here, there]
    const plan = SyncPlan.make(source.tree, target.tree, input)
    const show = yield* FilesShow.make(input)
    const isRead = source.unread.length === 0 && source.unnamed === 0
    /** What was to be removed and is not makes the command fail, as folders do that could not be read. */
    const whole =
      source.unread.length > 0
        ? failed(`${count(source.unread.length, "folder")} could not be read`)
        : isRead || plan.removed.length === 0
          ? Effect.void
          : failed("nothing was removed, because not everything could be named")
    if (input.dryRun || local === undefined) {
      const would = isRead ? plan : { ...plan, removed: [] }
      const lines = input.json ? [Printable.json(would)] : told(would, source, target, input).map(Files.shown)
      if (lines.length > 0) yield* Output.line(lines.join("\n"))
      yield* Files.leftOut(source.unnamed, source.unread)
      yield* show.note(`nothing was done; ${count(plan.equal, "file")} the same already`)
      return yield* whole
    }

    const at = (path: string): string => `${remote === "/" ? "" : remote}/${path}`
    const remove = (path: string): Effect.Effect<void, Files.RemoteError> =>
      input.back
        ? local.remove(path, { recursive: true, forever: true })
        : server["Files.Remove"]({ path: at(path), recursive: true })
    const removeAll = (paths: ReadonlyArray<string>) =>
      Files.eachOf(
        paths,
        (path) =>
          Effect.andThen(
            remove(path),
            input.json
              ? Output.line(JSON.stringify({ _tag: "Removed", path }))
              : show.note(`removed ${path}${input.back ? "" : " (it is in the trash)"}`)
          ),
        input.back ? "here" : "server"
      )

    yield* removeAll(plan.cleared)
    const items = itemsOf(plan, source, (path) =>
      input.back ? { from: at(path), to: `/${path}` } : { from: `/${path}`, to: at(path) }
    )
    const options: TransferEvent.Options = {
      open,
      local,
      idleMs: input.timeout.silentMs,
      conflict: "overwrite",
      checksum: input.checksum,
      delta: deltas(input.delta),
      digest,
      touch
    }
    if (!input.back && Option.isNone(yield* FilesTransfer.existing(pages.stat(remote)))) {
      yield* Effect.mapError(server["Files.Mkdir"]({ path: remote, parents: true }), Files.failureThere)
    }
    const all = Stream.fromIterable(items)
    const events = input.back ? Transfers.get(options, all) : Transfers.put(options, all)
    yield* show.run(events, ({ from, to }) => (input.back ? to : from).replace(/^\//, ""))
    if (show.sum.failed === 0 && isRead) yield* removeAll(plan.removed)
    else if (plan.removed.length > 0 && (show.sum.failed > 0 || source.unread.length > 0))
      yield* show.note("nothing was removed, because not everything could be read or sent")

    if (plan.left.length > 0) {
      const [first] = plan.left
      yield* show.note(`left out: ${count(plan.left.length, "link or special file")}, first ${JSON.stringify(first)}`)
    }
    yield* Files.leftOut(source.unnamed, source.unread)
    show.sum.same += plan.equal
    yield* show.end
    for (const path of plan.blocked) {
      yield* Output.note(`clawchat: ${JSON.stringify(path)}: something of another kind stands there (see --delete)`)
    }
    if (plan.blocked.length > 0) return yield* failed(`in the way: ${count(plan.blocked.length, "path")}`)
    yield* whole
  },
  Effect.scoped,
  Effect.provide(FilesTransfer.layers)
)
