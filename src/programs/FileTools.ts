/** Tools on the user's files below the base path: whatever a model asks for, the store's walls hold. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Glob from "../domain/Glob.ts"
import * as Printable from "../domain/Printable.ts"
import type * as RemoteFile from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import { isSensitive } from "../domain/SensitiveName.ts"
import type { Risk } from "../domain/ToolPolicy.ts"
import { type FileTree, parse } from "../services/FileTree.ts"
import * as Tool from "./Tool.ts"

/** Bytes of a file that one call reads at most, so that they fit a result with a word on where it goes on, and that one call writes. */
const MAX_READ = 30 * 1024
const MAX_WRITE = 1024 * 1024
/** Entries that one call lists. */
const MAX_LISTED = 500
/** Files that one search looks into, bytes of each, and hits that it tells. */
const MAX_SEARCHED = 2000
const MAX_SEARCHED_BYTES = 256 * 1024
const MAX_HITS = 100

const PathInput = Schema.String.check(Schema.isMaxLength(RemotePath.MAX_PATH_LENGTH))
const path = PathInput.annotate({ description: "whole path from the base folder, such as /notes/today.md" })
const folder = Schema.optionalKey(PathInput).annotate({ description: "whole path of the folder; default /, the base" })

const fail = (message: string) => new Tool.ToolError({ message })
const fromFiles = (error: RemoteFile.FilesError) => fail(Printable.line(error.message))

const utf8 = new TextDecoder("utf-8", { fatal: true })

/** Text and its bytes, or undefined for what is none. `cut`: the end may be half a character. */
const textOf = (bytes: Uint8Array, cut: boolean): { readonly text: string; readonly length: number } | undefined => {
  for (let drop = 0; drop <= (cut ? 3 : 0); drop++) {
    const length = bytes.length - drop
    try {
      const text = utf8.decode(bytes.subarray(0, length))
      return text.includes("\u0000") ? undefined : { text, length }
    } catch {
      // Half a character at the end, perhaps.
    }
  }
  return undefined
}

/** Bytes at the beginning that belong to the character before. */
const restOfCharacter = (bytes: Uint8Array): number => {
  let rest = 0
  while (rest < Math.min(3, bytes.length) && ((bytes[rest] as number) & 0xc0) === 0x80) rest++
  return rest
}

/** The path as the store writes it: what a person decides about is what is done. */
const named = (text: string): Effect.Effect<string, Tool.ToolError> => {
  const parsed = parse(text)
  return Result.isFailure(parsed)
    ? Effect.fail(fromFiles(parsed.failure))
    : Effect.succeed(RemotePath.format(parsed.success))
}

const reading = (at: string): Risk => (isSensitive(at) ? "always" : "free")
/** The assistant's own files, should their folder be below the base path: who it is and what it does by itself is not granted for longer. */
const OWN = /(?:^|\/)(?:SOUL|AGENTS|USER|MEMORY|CRON)\.md$/i
const changing = (...paths: ReadonlyArray<string>): Risk =>
  paths.some((each) => isSensitive(each) || OWN.test(each)) ? "always" : "dangerous"

const line = (text: string): string => Printable.line(text)

/** What is found below a folder, by its whole path: so it is named in the next call. */
const below = (folder: string, found: string): string => `${folder === "/" ? "" : folder}/${found}`

const entryLine = (folder: string, { kind, mtimeMs, path: at, size }: RemoteFile.Found): string => {
  const when = new Date(mtimeMs).toISOString().slice(0, 16)
  const whole = line(below(folder, at))
  return kind === "folder" ? `${whole}/` : `${whole}  ${kind === "file" ? `${size} bytes` : kind}  ${when}Z`
}

/** `tree` is both tiers' base folder. */
export const make = (tree: FileTree): ReadonlyArray<Tool.Tool> => {
  const head = (at: string, offset: number, length: number) =>
    Effect.scoped(
      Effect.gen(function* () {
        const reader = yield* tree.open(at)
        return { size: reader.size, bytes: yield* reader.readAt(Math.min(offset, reader.size), length) }
      })
    )

  const list = Tool.make({
    name: "file_list",
    description: `Lists a folder of the user's files, by whole path, with sizes and times of change in UTC; at most ${MAX_LISTED} entries.`,
    untrusted: true,
    input: Schema.Struct({
      path: folder,
      depth: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 10 }))).annotate({
        description: "how many levels of folders to list; default 1"
      })
    }),
    prepare: Effect.fnUntraced(function* ({ depth = 1, path: given = "" }) {
      const at = yield* named(given)
      const run = Effect.gen(function* () {
        const lines: Array<string> = []
        let cursor: string | undefined
        do {
          const options = { depth, limit: MAX_LISTED - lines.length, ...(cursor === undefined ? {} : { cursor }) }
          const page: RemoteFile.Walk = yield* tree.walk(at, options)
          lines.push(...page.entries.map((entry) => entryLine(at, entry)))
          cursor = page.cursor
        } while (cursor !== undefined && lines.length < MAX_LISTED)
        if (lines.length === 0) return `there is nothing in ${at}`
        return [...lines, ...(cursor === undefined ? [] : [`[cut: only the first ${MAX_LISTED} entries]`])].join("\n")
      }).pipe(Effect.mapError(fromFiles))
      return { summary: `list ${line(at)}`, detail: line(at), risk: "free", run }
    })
  })

  const read = Tool.make({
    name: "file_read",
    description: `Reads a text file, at most ${MAX_READ} bytes at a time.`,
    untrusted: true,
    input: Schema.Struct({
      path,
      offset: Schema.optionalKey(Schema.Natural).annotate({
        description: "the byte to begin at; default 0. The end of each part names the next"
      })
    }),
    prepare: Effect.fnUntraced(function* ({ offset = 0, path: given }) {
      const at = yield* named(given)
      const run = Effect.gen(function* () {
        const { bytes: found, size } = yield* Effect.mapError(head(at, offset, MAX_READ), fromFiles)
        const start = offset === 0 ? 0 : restOfCharacter(found)
        const read = textOf(found.subarray(start), offset + found.length < size)
        if (read === undefined) return yield* fail(`${line(at)} is no text (${size} bytes)`)
        const end = offset + start + read.length
        return end < size
          ? `${read.text}\n[bytes ${offset + start} to ${end} of ${size}; go on with offset ${end}]`
          : read.text
      })
      return { summary: `read ${line(at)}`, detail: line(at), risk: reading(at), run }
    })
  })

  const search = Tool.make({
    name: "file_search",
    description:
      "Searches the user's text files for a text and gives the lines that hold it as path:line: text; without a text it finds files by name.",
    untrusted: true,
    input: Schema.Struct({
      text: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(200))).annotate({
        description: "what a line holds, word for word but for upper and lower case; no pattern"
      }),
      path: folder,
      glob: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(500))).annotate({
        description: "only files whose path below the folder matches, such as **/*.md"
      })
    }),
    prepare: Effect.fnUntraced(function* ({ glob, path: given = "", text = "" }) {
      const at = yield* named(given)
      const pattern = Glob.parse(glob ?? "**")
      if (Result.isFailure(pattern)) return yield* fail(`the glob is wrong: ${pattern.failure}`)
      const matches = (found: string) => glob === undefined || pattern.success.matches(found.split("/"))
      const wanted = text.toLowerCase()
      const run = Effect.gen(function* () {
        const hits: Array<string> = []
        let looked = 0
        let cursor: string | undefined
        do {
          const page: RemoteFile.Walk = yield* tree.walk(at, cursor === undefined ? {} : { cursor })
          for (const entry of page.entries) {
            if (entry.kind !== "file" || !matches(entry.path)) continue
            const whole = below(at, entry.path)
            if (wanted === "") {
              hits.push(line(whole))
            } else if (!isSensitive(whole)) {
              if (++looked > MAX_SEARCHED) break
              const found = yield* Effect.option(head(whole, 0, MAX_SEARCHED_BYTES))
              const content = found._tag === "Some" ? textOf(found.value.bytes, true)?.text : undefined
              content?.split("\n").forEach((each, index) => {
                if (hits.length < MAX_HITS && each.toLowerCase().includes(wanted)) {
                  hits.push(`${line(whole)}:${index + 1}: ${line(each.trim()).slice(0, 300)}`)
                }
              })
            }
            if (hits.length >= MAX_HITS) break
          }
          cursor = page.cursor
        } while (cursor !== undefined && hits.length < MAX_HITS && looked <= MAX_SEARCHED)
        if (hits.length === 0) return "nothing was found"
        return hits.length < MAX_HITS && looked <= MAX_SEARCHED
          ? hits.join("\n")
          : `${hits.join("\n")}\n[cut: there may be more]`
      }).pipe(Effect.mapError(fromFiles))
      const what = text === "" ? (glob ?? "all files") : JSON.stringify(text)
      return { summary: `search ${line(at)} for ${line(what)}`, detail: line(what), risk: "free", run }
    })
  })

  const write = Tool.make({
    name: "file_write",
    description:
      "Writes a text file; folders on the way to it are made. The user is shown the text and decides, so do not ask before.",
    input: Schema.Struct({
      path,
      text: Schema.String.annotate({ description: "all that is to stand in the file" }),
      replace: Schema.optionalKey(Schema.Boolean).annotate({
        description: "true to replace a file that is there, whose content is then gone; default false"
      })
    }),
    prepare: Effect.fnUntraced(function* ({ path: given, replace = false, text }) {
      const at = yield* named(given)
      const bytes = new TextEncoder().encode(text)
      if (bytes.length > MAX_WRITE)
        return yield* fail(`a file of ${bytes.length} bytes is too long, at most ${MAX_WRITE}`)
      const run = Effect.gen(function* () {
        const [outcome] = yield* tree.writeSmall([
          { path: at, bytes, conflict: replace ? "replace" : "fail", parents: true }
        ])
        if (outcome === undefined || Result.isFailure(outcome)) {
          return yield* fail(outcome === undefined ? "nothing was written" : line(outcome.failure.message))
        }
        return `${line(outcome.success.path)} has now ${bytes.length} bytes`
      })
      const verb = replace ? "replace" : "write"
      const detail = `${line(at)}\n${Printable.clean(text)}`
      return { summary: `${verb} ${line(at)} (${bytes.length} bytes)`, detail, risk: changing(at), run }
    })
  })

  const move = Tool.make({
    name: "file_move",
    description:
      "Moves or renames a file or folder; folders on the way are made, nothing is replaced. The user decides, so do not ask before.",
    input: Schema.Struct({
      from: path,
      to: PathInput.annotate({ description: "its whole new path, its name included" })
    }),
    prepare: Effect.fnUntraced(function* (input) {
      const from = yield* named(input.from)
      const to = yield* named(input.to)
      const parent = to.slice(0, to.lastIndexOf("/"))
      const run = Effect.gen(function* () {
        // Before a folder is made for what is not there.
        yield* tree.stat(from)
        if (parent !== "") yield* tree.mkdir(parent, { parents: true })
        yield* tree.move(from, to)
        return `${line(from)} is now ${line(to)}`
      }).pipe(Effect.mapError(fromFiles))
      const summary = `move ${line(from)} to ${line(to)}`
      return { summary, detail: `${line(from)}\n-> ${line(to)}`, risk: changing(from, to), run }
    })
  })

  const trash = Tool.make({
    name: "file_trash",
    description:
      "Moves a file, or a folder with all that is in it, to the trash, where the user can restore it. The user decides, so do not ask before.",
    input: Schema.Struct({ path }),
    prepare: Effect.fnUntraced(function* ({ path: given }) {
      const at = yield* named(given)
      const run = Effect.as(
        Effect.mapError(tree.remove(at, { recursive: true }), fromFiles),
        `${line(at)} is in the trash: clawchat files trash ls`
      )
      return { summary: `move ${line(at)} to the trash`, detail: line(at), risk: changing(at), run }
    })
  })

  return [list, read, search, write, move, trash]
}
