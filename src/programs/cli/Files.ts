/** `clawchat files`: the tree below the server's base path. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { RpcClientError } from "effect/rpc/RpcClientError"
import type { Entry, FilesError } from "../../domain/RemoteFile.ts"
import * as Common from "./Common.ts"
import { denied, ExitCode, Failure, failed, notFound } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import * as Tier from "./Tier.ts"

export interface Input extends Common.Globals {
  readonly path: Option.Option<string>
  readonly json: boolean
  readonly timeout: number
}

const failure = (error: FilesError | RpcClientError): Failure => {
  if (error._tag !== "FilesError") return Tier.lost(error)
  switch (error.reason) {
    case "NotFound":
      return notFound(error.message)
    case "Denied":
      return denied(error.message)
    case "BadName":
      return new Failure({ code: ExitCode.Usage, message: error.message })
    default:
      return failed(error.message)
  }
}

const describe = (entries: ReadonlyArray<Entry>): string =>
  Output.table(
    entries.map(({ kind, mtimeMs, name, size }) => [
      kind === "folder" ? "d" : kind === "link" ? "l" : kind === "file" ? "-" : "?",
      String(size).padStart(12),
      new Date(mtimeMs).toISOString().slice(0, 16).replace("T", " "),
      kind === "folder" ? `${name}/` : name
    ])
  )

export const ls = Effect.fnUntraced(
  function* (input: Input) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const { server } = yield* Tier.remote(values, input.timeout)
    const path = Option.getOrElse(input.path, () => "")
    const entries: Array<Entry> = []
    let unnamed = 0
    let cursor: string | undefined
    do {
      const page = yield* Effect.mapError(
        server["Files.List"](cursor === undefined ? { path } : { path, cursor }),
        failure
      )
      entries.push(...page.entries)
      unnamed = page.unnamed
      cursor = page.cursor
    } while (cursor !== undefined)
    if (input.json) yield* Output.json(entries)
    else if (entries.length > 0) yield* Output.line(describe(entries))
    if (unnamed > 0) yield* Output.note(`${unnamed} entries have names that cannot be shown and were left out`)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export const stat = Effect.fnUntraced(
  function* (input: Input) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const { server } = yield* Tier.remote(values, input.timeout)
    const path = Option.getOrElse(input.path, () => "")
    const found = yield* Effect.mapError(server["Files.Stat"]({ path }), failure)
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
