/** `clawchat files ls|stat|tree|du|find|cat`: looking at the tree below the server's base path, changing nothing. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as Glob from "../../domain/Glob.ts"
import * as Progress from "../../domain/Progress.ts"
import { Priority } from "../../domain/protocol/Streams.ts"
import type { Entry, Found, Kind, Usage } from "../../domain/RemoteFile.ts"
import * as FileWalk from "../FileWalk.ts"
import * as TransferPipes from "../TransferPipes.ts"
import { usage } from "./Failure.ts"
import * as Files from "./FilesCommon.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"

export interface Input extends Files.Input {
  readonly path: ReadonlyArray<string>
}

type Row = Pick<Entry, "name" | "kind" | "size" | "mtimeMs" | "mode">

const SIGN: Readonly<Record<Kind, string>> = { file: "-", folder: "d", link: "l", other: "?" }

const labelled = (name: string, kind: Kind): string => (kind === "folder" ? `${Files.shown(name)}/` : Files.shown(name))

const describe = (rows: ReadonlyArray<Row>): string =>
  Output.table(
    rows.map(({ kind, mtimeMs, name, size }) => [
      SIGN[kind],
      String(size).padStart(12),
      new Date(mtimeMs).toISOString().slice(0, 16).replace("T", " "),
      labelled(name, kind)
    ])
  )

export interface ListInput extends Input {
  readonly recursive: boolean
}

export const ls = Effect.fnUntraced(
  function* (input: ListInput) {
    const { pages } = yield* Files.connect(input)
    const paths = input.path.length === 0 ? [""] : input.path
    const rows: Array<Row> = []
    const unread: Array<string> = []
    let unnamed = 0
    const take = (within: string, { kind, mode, mtimeMs, size }: Found | Entry, name: string): void => {
      rows.push({ name: within + name, kind, size, mtimeMs, mode })
    }
    const tries = Files.makeTries()
    const look = (path: string) =>
      Effect.gen(function* () {
        const found = yield* FileWalk.expand(pages, path)
        const [first] = found
        // A folder that is named is opened; what a pattern finds is shown itself.
        const isOpened = found.length === 1 && first?.kind === "folder" && (path === "" || !Glob.isPattern(path))
        if (!isOpened || first === undefined) {
          for (const each of found) rows.push({ ...each, name: each.path.slice(1) })
          return
        }
        const within = paths.length === 1 || first.path === "/" ? "" : `${first.path.slice(1)}/`
        if (input.recursive) {
          const walked = yield* FileWalk.walk(pages, path, (entries) =>
            Effect.sync(() => {
              for (const entry of entries) take(within, entry, entry.path)
            })
          )
          unnamed += walked.unnamed
          unread.push(...walked.unread)
        } else {
          const listed = yield* FileWalk.list(pages, path)
          for (const entry of listed.entries) take(within, entry, entry.name)
          unnamed += listed.unnamed
        }
      })
    for (const path of paths) yield* tries.run(look(path))
    if (paths.length === 1) yield* tries.end
    if (input.json)
      yield* Output.json(rows.map(({ kind, mode, mtimeMs, name, size }) => ({ name, kind, size, mtimeMs, mode })))
    else if (rows.length > 0) {
      yield* Output.line(input.quiet ? rows.map(({ kind, name }) => labelled(name, kind)).join("\n") : describe(rows))
    }
    if (!input.quiet) yield* Files.leftOut(unnamed, unread)
    yield* tries.end
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface StatInput extends Files.Input {
  readonly path: Option.Option<string>
}

export const stat = Effect.fnUntraced(
  function* (input: StatInput) {
    const { pages } = yield* Files.connect(input)
    const path = Option.getOrElse(input.path, () => "")
    const found = yield* Effect.mapError(pages.stat(path), Files.failure)
    if (input.json) return yield* Output.json(found)
    const { kind, mtimeMs, size } = found
    yield* Output.line(
      Output.table([
        ["kind:", kind],
        ["size:", String(size)],
        ["changed:", new Date(mtimeMs).toISOString()]
      ])
    )
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

// -- tree --------------------------------------------------------------------------------------------------------------

export interface TreeInput extends StatInput {
  readonly depth: Option.Option<number>
}

/** Draws what a walk gave, in its order. Whether a line is the last of its folder is known from the end only. */
const branches = (entries: ReadonlyArray<Found>): ReadonlyArray<string> => {
  const lines: Array<string> = []
  /** By level, whether something comes below that belongs to the same folder. */
  const more: Array<boolean> = []
  for (const { kind, path } of entries.toReversed()) {
    const level = path.split("/").length - 1
    more.length = Math.min(more.length, level + 1)
    const isLast = more[level] !== true
    const before = Array.from({ length: level }, (_, at) => (more[at] === true ? "\u2502   " : "    ")).join("")
    lines.push(`${before}${isLast ? "\u2514" : "\u251c"}\u2500\u2500 ${labelled(Files.nameOf(path), kind)}`)
    more[level] = true
  }
  return lines.toReversed()
}

export const tree = Effect.fnUntraced(
  function* (input: TreeInput) {
    const { pages } = yield* Files.connect(input)
    const path = Option.getOrElse(input.path, () => "")
    const depth = Option.getOrUndefined(input.depth)
    if (depth !== undefined && depth < 1) return yield* usage("--depth is at least 1")
    const entries: Array<Found> = []
    const top = yield* Effect.mapError(pages.stat(path), Files.failure)
    const walked = yield* Effect.mapError(
      FileWalk.walk(pages, path, (found) => Effect.sync(() => entries.push(...found)), depth),
      Files.failure
    )
    if (input.json) yield* Output.json(entries)
    else {
      yield* Output.line([Files.shown(top.path), ...branches(entries)].join("\n"))
      const folders = entries.filter(({ kind }) => kind === "folder").length
      if (!input.quiet) yield* Output.note(`${folders} folders, ${entries.length - folders} files`)
    }
    if (!input.quiet) yield* Files.leftOut(walked.unnamed, walked.unread)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

// -- du ----------------------------------------------------------------------------------------------------------------

type Used = { readonly path: string } & Pick<Usage, "bytes" | "files" | "folders" | "others" | "unread">

const counted = (n: number, one: string): string => `${n} ${one}${n === 1 ? "" : "s"}`

const tabulate = (all: ReadonlyArray<Used>): Effect.Effect<void> =>
  Output.line(
    Output.table(
      all.map(({ bytes, files, folders, path }) => [
        Progress.size(bytes).padStart(8),
        counted(files, "file"),
        counted(folders, "folder"),
        Files.shown(path)
      ])
    )
  )

export const du = Effect.fnUntraced(
  function* (input: Input) {
    const { pages, server } = yield* Files.connect(input)
    const all: Array<Used> = []
    const tries = Files.makeTries()
    const paths = input.path.length === 0 ? [""] : input.path
    for (const path of paths) {
      for (const match of yield* tries.find(FileWalk.expand(pages, path))) {
        yield* tries.run(
          Effect.map(server["Files.Du"]({ path: match.path }), ({ bytes, files, folders, others, unread }) => {
            all.push({ path: match.path, bytes, files, folders, others, unread })
          })
        )
      }
    }
    if (all.length === 0) yield* tries.end
    if (input.json) yield* Output.json(all)
    else yield* tabulate(all)
    for (const { path, unread } of all) {
      if (unread > 0 && !input.quiet)
        yield* Output.note(`${counted(unread, "folder")} in ${Files.shown(path)} cannot be read`)
    }
    yield* tries.end
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

// -- find --------------------------------------------------------------------------------------------------------------

export interface FindInput extends StatInput {
  readonly name: Option.Option<string>
  readonly kind: Option.Option<Kind>
}

export const find = Effect.fnUntraced(
  function* (input: FindInput) {
    const { pages } = yield* Files.connect(input)
    const path = Option.getOrElse(input.path, () => "")
    const parsed = Option.map(input.name, Glob.parse)
    if (Option.isSome(parsed) && Result.isFailure(parsed.value)) return yield* usage(parsed.value.failure)
    const glob = Option.isSome(parsed) && Result.isSuccess(parsed.value) ? parsed.value.success : undefined
    const isOfPath = Option.exists(input.name, (pattern) => pattern.includes("/"))
    const within = path.split("/").filter((name) => name !== "" && name !== ".")
    const isWanted = (found: Found): boolean => {
      if (Option.isSome(input.kind) && found.kind !== input.kind.value) return false
      const names = found.path.split("/")
      return glob === undefined || glob.matches(isOfPath ? names : names.slice(-1))
    }
    let count = 0
    const walked = yield* Effect.mapError(
      FileWalk.walk(pages, path, (entries) => {
        const lines = entries.filter(isWanted).map((found) => {
          const whole = [...within, found.path].join("/")
          return input.json ? JSON.stringify({ ...found, path: whole }) : labelled(whole, found.kind)
        })
        count += lines.length
        return lines.length === 0 ? Effect.void : Output.line(lines.join("\n"))
      }),
      Files.failure
    )
    if (!input.quiet) yield* Files.leftOut(walked.unnamed, walked.unread)
    if (count === 0 && !input.quiet) yield* Output.note("nothing found")
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

// -- cat ---------------------------------------------------------------------------------------------------------------

export const cat = Effect.fnUntraced(
  function* (input: Omit<Input, "json" | "quiet">) {
    if (input.path.length === 0) return yield* usage("Which file? Give a path")
    const { connection, pages } = yield* Files.connect({ ...input, json: false, quiet: false })
    const open = connection.open(Priority.Bulk)
    for (const path of input.path) {
      for (const match of yield* Effect.mapError(FileWalk.expand(pages, path), Files.failure)) {
        const bytes = TransferPipes.read(open, match.path, { idleMs: input.timeout.silentMs })
        yield* Effect.mapError(Stream.runForEach(bytes, Output.bytes), Files.transferFailure)
      }
    }
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)
