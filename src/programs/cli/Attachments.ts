/** Files of this host that go with a message: images and texts, known by what is in them. */
import * as fs from "node:fs/promises"
import { homedir } from "node:os"
import * as path from "node:path"
import * as Effect from "effect/Effect"
import { maxAttachmentBytes, maxAttachments } from "../../domain/ChatRpc.ts"
import type { Attachment } from "../../domain/Llm.ts"
import * as Printable from "../../domain/Printable.ts"
import { AttachError } from "../ChatTalk.ts"
import { ExitCode, Failure, usage } from "./Failure.ts"

const MAX_MIB = maxAttachmentBytes / 1024 ** 2

/** Beginnings of the images that models take. */
const IMAGES: ReadonlyArray<readonly [mediaType: string, pattern: RegExp]> = [
  // biome-ignore-start lint/suspicious/noControlCharactersInRegex: the bytes are what they are
  ["image/png", /^\x89PNG\r\n\x1a\n/],
  ["image/jpeg", /^\xff\xd8\xff/],
  ["image/gif", /^GIF8[79]a/],
  ["image/webp", /^RIFF[\s\S]{4}WEBP/]
  // biome-ignore-end lint/suspicious/noControlCharactersInRegex: the bytes are what they are
]

const TEXTS: { readonly [extension: string]: string } = {
  ".md": "text/markdown",
  ".csv": "text/csv",
  ".html": "text/html",
  ".xml": "text/xml"
}

/** Undefined for what is neither an image nor a text. */
export const mediaTypeOf = (name: string, bytes: Uint8Array): string | undefined => {
  const head = Buffer.from(bytes.subarray(0, 16)).toString("latin1")
  const image = IMAGES.find(([, pattern]) => pattern.test(head))
  if (image !== undefined) return image[0]
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes)
    if (text.includes("\0")) return undefined
  } catch {
    return undefined
  }
  return TEXTS[path.extname(name).toLowerCase()] ?? "text/plain"
}

const absolute = (file: string): string => path.resolve(/^~(?=\/|$)/.test(file) ? file.replace("~", homedir()) : file)

const refuse = (file: string, why: string) =>
  new AttachError({ message: Printable.line(`${file} is not attached: ${why}`) })

/** One file. Special files are refused unopened: a FIFO would wait for ever. */
export const read = (file: string): Effect.Effect<Attachment, AttachError> =>
  Effect.gen(function* () {
    const target = absolute(file)
    const stat = yield* Effect.tryPromise({
      try: () => fs.stat(target),
      catch: () => refuse(file, "it is not there, or cannot be read")
    })
    if (!stat.isFile()) return yield* refuse(file, "it is no file")
    if (stat.size > maxAttachmentBytes) {
      return yield* refuse(
        file,
        `at most ${MAX_MIB} MiB go with a message: send it with clawchat files put, and name its path`
      )
    }
    const content = yield* Effect.tryPromise({
      try: () => fs.readFile(target),
      catch: () => refuse(file, "it cannot be read")
    })
    const bytes = new Uint8Array(content)
    const name = Printable.line(path.basename(target)).slice(0, 255)
    const mediaType = mediaTypeOf(name, bytes)
    if (mediaType === undefined || name === "") {
      return yield* refuse(file, "it is neither a text in UTF-8 nor an image (PNG, JPEG, GIF, WebP)")
    }
    return { name, mediaType, bytes }
  })

/** All files of `--attach`. */
export const readAll = Effect.fnUntraced(function* (files: ReadonlyArray<string>) {
  if (files.length > maxAttachments) return yield* usage(`--attach: at most ${maxAttachments} files go with a message`)
  const all = yield* Effect.mapError(
    Effect.forEach(files, read),
    ({ message }) => new Failure({ code: / is not there/.test(message) ? ExitCode.NotFound : ExitCode.Usage, message })
  )
  const bytes = all.reduce((sum, each) => sum + each.bytes.length, 0)
  if (bytes > maxAttachmentBytes) {
    return yield* usage(`--attach: at most ${MAX_MIB} MiB go with a message; these have ${bytes} bytes`)
  }
  return all
})
