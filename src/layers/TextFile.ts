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

export const same = (a: Found | undefined, b: Found | undefined): boolean =>
  a === undefined || b === undefined ? a === b : a.bytes.equals(b.bytes)

/**
 * What stands there, or undefined for nothing. The type is looked at before opening, since opening a FIFO waits; the open
 * itself neither follows a link nor waits. More than `maxBytes` is refused.
 */
export const find = async (file: string, maxBytes: number): Promise<Found | undefined> => {
  const before = await fs.lstat(file).catch((error: unknown) => {
    if (codeOf(error) === "ENOENT") return undefined
    throw error
  })
  if (before === undefined) return undefined
  if (before.isSymbolicLink()) throw unsafe(file, "is a link: put the text itself there")
  if (!before.isFile()) throw unsafe(file, "is not a regular file")
  const flags = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0)
  const handle = await fs.open(file, flags)
  try {
    const stat = await handle.stat()
    if (!stat.isFile()) throw unsafe(file, "is not a regular file")
    if (stat.size > maxBytes) throw unsafe(file, `has more than ${maxBytes} bytes: shorten it`)
    const buffer = Buffer.alloc(Math.min(maxBytes, stat.size) + 1)
    let length = 0
    while (length < buffer.length) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length)
      if (bytesRead === 0) break
      length += bytesRead
    }
    if (length > maxBytes) throw unsafe(file, `has more than ${maxBytes} bytes: shorten it`)
    return { bytes: buffer.subarray(0, length), mode: stat.mode & 0o777 }
  } finally {
    await handle.close()
  }
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
