/** `clawchat files mkdir|rm|mv|cp` and `clawchat files trash`: changing the tree below the server's base path. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Printable from "../../domain/Printable.ts"
import * as Progress from "../../domain/Progress.ts"
import { FilesError } from "../../domain/RemoteFile.ts"
import * as FileWalk from "../FileWalk.ts"
import { notFound, usage } from "./Failure.ts"
import * as Files from "./FilesCommon.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"

export interface Input extends Files.Input {
  readonly path: ReadonlyArray<string>
}

/** Calls under way of what a pattern has found: half of what the server takes on a stream. */
const AT_ONCE = 8

const needsRecursive = (path: string) =>
  new FilesError({ reason: "NotAFile", message: `${JSON.stringify(path)} is a folder: add -r` })

/** What was done, as a line of JSON or for people. */
const report = (input: Files.Input, facts: object, sentence: string) =>
  input.json ? Output.line(Printable.json(facts)) : input.quiet ? Effect.void : Output.note(Printable.line(sentence))

export interface MakeInput extends Input {
  readonly parents: boolean
}

export const mkdir = Effect.fnUntraced(
  function* (input: MakeInput) {
    if (input.path.length === 0) return yield* usage("Which folder? Give a path")
    const { server } = yield* Files.connect(input)
    yield* Files.eachOf(input.path, (path) =>
      Effect.flatMap(server["Files.Mkdir"]({ path, parents: input.parents }), (made) =>
        report(input, { made: made.path }, `made ${Files.shown(made.path)}`)
      )
    )
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface RemoveInput extends Input {
  readonly recursive: boolean
  readonly forever: boolean
}

export const rm = Effect.fnUntraced(
  function* (input: RemoveInput) {
    if (input.path.length === 0) return yield* usage("What? Give a path")
    const { pages, server } = yield* Files.connect(input)
    const { forever, recursive } = input
    const tries = Files.makeTries()
    const remove = (at: string) =>
      Effect.andThen(
        server["Files.Remove"]({ path: at, recursive, forever }),
        report(
          input,
          { removed: at, forever },
          forever ? `deleted ${Files.shown(at)}` : `${Files.shown(at)} is in the trash`
        )
      )
    for (const path of input.path) {
      const found = yield* tries.find(FileWalk.expand(pages, path))
      yield* Effect.forEach(
        recursive ? FileWalk.topmost(found) : found,
        ({ kind, path: at }) =>
          // What a pattern meets beside files: whether it is empty would depend on what of it went first.
          tries.run(kind === "folder" && !recursive && found.length > 1 ? needsRecursive(at) : remove(at)),
        { concurrency: AT_ONCE, discard: true }
      )
    }
    yield* tries.end
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export type Rule = "fail" | "skip" | "overwrite" | "rename"

export interface MoveInput extends Input {
  readonly conflict: Rule
  readonly recursive?: boolean
}

const CONFLICT = { fail: "fail", skip: "fail", overwrite: "replace", rename: "rename" } as const

/** `mv` and `cp`: the last path is the target, a folder to put things into or a new name for the one thing. */
const carry = (verb: "mv" | "cp") =>
  Effect.fnUntraced(
    function* (input: MoveInput) {
      const to = input.path.at(-1)
      const sources = input.path.slice(0, -1)
      if (to === undefined || sources.length === 0) return yield* usage("From where to where? Give two paths or more")
      yield* Files.refuseEmpty(input.path)
      const { pages, server } = yield* Files.connect(input)
      const target = yield* pages.stat(to).pipe(
        Effect.asSome,
        Effect.catchIf(
          (error) => error._tag === "FilesError" && error.reason === "NotFound",
          () => Effect.succeedNone
        ),
        Effect.mapError(Files.failure)
      )
      const isFolder = Option.exists(target, ({ kind }) => kind === "folder")
      if (to.endsWith("/") && !isFolder) return yield* notFound(`${JSON.stringify(to)} is no folder on the server`)
      const tries = Files.makeTries()
      const one = ({ kind, path }: FileWalk.Match) =>
        Effect.suspend(() => {
          if (verb === "cp" && kind === "folder" && input.recursive !== true) return needsRecursive(path)
          const into = Files.canonical(isFolder ? `${to}/${Files.nameOf(path)}` : to)
          const payload = { from: path, to: into, conflict: CONFLICT[input.conflict] }
          const act = verb === "mv" ? server["Files.Move"](payload) : server["Files.Copy"](payload)
          const done = verb === "mv" ? "moved" : "copied"
          return act.pipe(
            Effect.flatMap((at) =>
              report(input, { [done]: path, to: at.path }, `${done} ${Files.shown(path)} to ${Files.shown(at.path)}`)
            ),
            Effect.catchIf(
              (error) => input.conflict === "skip" && error._tag === "FilesError" && error.reason === "Exists",
              () => report(input, { skipped: path, to: into }, `skipped ${Files.shown(path)}: it is there already`)
            )
          )
        })
      for (const source of sources) {
        const found = yield* tries.find(FileWalk.expand(pages, source))
        if (!isFolder && (found.length > 1 || sources.length > 1)) {
          const message = `${JSON.stringify(to)} must be a folder to take several things`
          yield* tries.run(new FilesError({ reason: "NotAFolder", message }))
          continue
        }
        for (const each of verb === "mv" ? FileWalk.topmost(found) : found) yield* tries.run(one(each))
      }
      yield* tries.end
    },
    Effect.scoped,
    Effect.provide(Layers.networkBrief)
  )

export const mv = carry("mv")
export const cp = carry("cp")

// -- trash -------------------------------------------------------------------------------------------------------------

const notInTrash = (id: string): string =>
  Printable.line(`${JSON.stringify(id)} is not in the trash: see clawchat files trash ls`)

export const trashLs = Effect.fnUntraced(
  function* (input: Files.Input) {
    const { server } = yield* Files.connect(input)
    const all = yield* Effect.mapError(server["Files.TrashList"](undefined), Files.failure)
    if (input.json) return yield* Output.json(all)
    yield* Output.line(
      Output.table([
        ["ID", "REMOVED", "SIZE", "WAS"],
        ...all.map(({ bytes, id, kind, path, removedMs }) => [
          id,
          new Date(removedMs).toISOString().slice(0, 16).replace("T", " "),
          Progress.size(bytes),
          kind === "folder" ? `${Files.shown(path)}/` : Files.shown(path)
        ])
      ])
    )
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface RestoreInput extends Files.Input {
  readonly id: string
  readonly to: Option.Option<string>
}

/** The one thing in the trash that an id begins, or that stood at a path last. */
export const trashRestore = Effect.fnUntraced(
  function* (input: RestoreInput) {
    const { server } = yield* Files.connect(input)
    const all = yield* Effect.mapError(server["Files.TrashList"](undefined), Files.failure)
    const path = `/${input.id.replace(/^\/+|\/+$/g, "")}`
    const named = all.filter(({ id }) => input.id !== "" && id.startsWith(input.id))
    const one = named.length === 1 ? named[0] : all.findLast((each) => each.path === path)
    if (one === undefined) {
      return yield* named.length > 1
        ? usage(`${JSON.stringify(input.id)} begins ${named.length} ids: give more of it`)
        : notFound(notInTrash(input.id))
    }
    const to = Option.getOrUndefined(input.to)
    const at = yield* Effect.mapError(
      server["Files.TrashRestore"](to === undefined ? { id: one.id } : { id: one.id, to }),
      Files.failure
    )
    yield* report(input, { restored: at.path }, `restored ${Files.shown(at.path)}`)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface EmptyInput extends Files.Input {
  readonly ids: ReadonlyArray<string>
}

export const trashEmpty = Effect.fnUntraced(
  function* (input: EmptyInput) {
    const { server } = yield* Files.connect(input)
    let count = 0
    if (input.ids.length === 0) count = yield* Effect.mapError(server["Files.TrashEmpty"]({}), Files.failure)
    const tries = Files.makeTries()
    const remove = Effect.fnUntraced(function* (id: string) {
      const gone = yield* server["Files.TrashEmpty"]({ id })
      if (gone === 0) return yield* new FilesError({ reason: "NotFound", message: notInTrash(id) })
      count += gone
    })
    for (const id of input.ids) yield* tries.run(remove(id))
    if (input.ids.length === 0 || count > 0) yield* report(input, { deleted: count }, `deleted ${count} for good`)
    yield* tries.end
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)
