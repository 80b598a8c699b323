/**
 * Text files that people edit with what they like and this program edits too: read with care (bounded, no link, never
 * waiting on a FIFO), replaced whole, and only while they are what was read. Plain promises; failures are `TextFileFault`.
 */
import { randomUUID } from "node:crypto"
import { constants } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Folders from "./Folders.ts"

export class TextFileFault extends Error {
  readonly reason: "Unsafe" | "Denied" | "Io"
  readonly path: string

  constructor(reason: "Unsafe" | "Denied" | "Io", file: string, message: string) {
    super(message)
    this.reason = reason
    this.path = file
  }
}

export interface Found {
  readonly bytes: Buffer
  readonly mode: number
}

export const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "unknown error"

const unsafe = (file: string, why: string) => new TextFileFault("Unsafe", file, `${file} ${why}; nothing of it is used`)

/** Whatever went wrong, in our words. */
export const faultOf = (file: string, error: unknown): TextFileFault => {
  if (error instanceof TextFileFault) return error
  const code = codeOf(error)
  const reason = ["EACCES", "EPERM", "EROFS"].includes(code) ? "Denied" : "Io"
  return new TextFileFault(reason, file, `cannot use ${file} (${code}): check its owner and the disk`)
}

const same = (a: Found | undefined, b: Found | undefined): boolean =>
  a === undefined || b === undefined ? a === b : a.bytes.equals(b.bytes)

const orMissing = (error: unknown): "Missing" => {
  if (codeOf(error) === "ENOENT") return "Missing"
  throw error
}

/** The start of a file, and how long all of it is. */
export interface Head extends Found {
  readonly size: number
}

/**
 * The first `maxBytes + 1` bytes of a file, fewer when it is shorter, or what stands there instead of one. The type is looked
 * at before opening, since opening a FIFO waits; the open itself neither follows a link nor waits, in case the name changed
 * hands in between.
 */
export const head = async (file: string, maxBytes: number): Promise<Head | "Missing" | "Link" | "Other"> => {
  const before = await fs.lstat(file).catch(orMissing)
  if (before === "Missing") return before
  if (before.isSymbolicLink()) return "Link"
  if (!before.isFile()) return "Other"
  const flags = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0)
  const handle = await fs.open(file, flags).catch(orMissing)
  if (handle === "Missing") return handle
  try {
    const stat = await handle.stat()
    if (!stat.isFile()) return "Other"
    let buffer = Buffer.alloc(Math.min(maxBytes, stat.size) + 1)
    let length = 0
    for (;;) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length)
      length += bytesRead
      if (bytesRead === 0 || length > maxBytes) break
      // It grows while it is read.
      if (length === buffer.length) buffer = Buffer.concat([buffer], Math.min(2 * length, maxBytes + 1))
    }
    return { bytes: buffer.subarray(0, length), size: Math.max(stat.size, length), mode: stat.mode & 0o777 }
  } finally {
    await handle.close()
  }
}

/** What stands there, or undefined for nothing. Links, what is no file, and more than `maxBytes` are refused. */
export const find = async (file: string, maxBytes: number): Promise<Found | undefined> => {
  const found = await head(file, maxBytes)
  if (found === "Missing") return undefined
  if (found === "Link") throw unsafe(file, "is a link: put the text itself there")
  if (found === "Other") throw unsafe(file, "is not a regular file")
  if (found.size > maxBytes) throw unsafe(file, `has more than ${maxBytes} bytes: shorten it`)
  return found
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** The text of what was found; empty for nothing. */
export const textOf = (file: string, found: Found | undefined): string => {
  if (found === undefined) return ""
  try {
    const text = utf8.decode(found.bytes)
    if (!text.includes("\u0000")) return text
  } catch {
    // Said below.
  }
  throw unsafe(file, "is not UTF-8 text: save it as UTF-8")
}

const flushFolder = async (folder: string): Promise<void> => {
  const handle = await fs.open(folder, "r").catch(() => undefined)
  // Where folders cannot be flushed the rename is as durable as it gets.
  await handle?.sync().catch(() => {})
  await handle?.close()
}

/**
 * Replaces the file, durably, and says true; says false and changes nothing where it is not any more what was seen. A new
 * file is 0600, its folder 0700. `afterWrite` is called before the last look, for tests of what happens there.
 */
export const replace = async (
  file: string,
  seen: Found | undefined,
  text: string,
  options: { readonly maxBytes: number; readonly afterWrite?: () => void }
): Promise<boolean> => {
  const folder = path.dirname(file)
  Folders.make(folder)
  const temporary = path.join(folder, `.${path.basename(file)}.${randomUUID()}`)
  const handle = await fs.open(temporary, "wx", 0o600)
  try {
    try {
      await handle.writeFile(text)
      await handle.chmod(seen?.mode ?? 0o600)
      await handle.sync()
    } finally {
      await handle.close()
    }
    options.afterWrite?.()
    if (!same(await find(file, options.maxBytes), seen)) return false
    await fs.rename(temporary, file)
  } finally {
    await fs.rm(temporary, { force: true })
  }
  await flushFolder(folder)
  return true
}

/** `.NAME.UUID`, as `replace` names what it writes beside. */
const BESIDE = /^\.(.+)\.[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** Removes what crashes in the midst of `replace` have left beside such files, where it is older than `before` (ms since 1970). */
export const sweep = async (folder: string, isOurs: (name: string) => boolean, before: number): Promise<void> => {
  const names = await fs.readdir(folder).catch(() => [])
  for (const name of names) {
    const of = BESIDE.exec(name)?.[1]
    if (of === undefined || !isOurs(of)) continue
    const file = path.join(folder, name)
    const stat = await fs.lstat(file).catch(() => undefined)
    if (stat?.isFile() === true && stat.mtimeMs < before) await fs.rm(file, { force: true }).catch(() => {})
  }
}

/** Makes the file with this text, 0600, where nothing stands at its name; a dangling link stays. */
export const createMissing = async (file: string, text: string): Promise<void> => {
  Folders.make(path.dirname(file))
  try {
    await fs.writeFile(file, text, { flag: "wx", mode: 0o600 })
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error
  }
}
