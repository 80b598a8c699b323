/**
 * What was removed, kept for a while in `.clawchat-trash` below the base: `<id>.json` says what it is, `<id>.item` is the
 * thing itself. The first is durable before the second is moved in, so nothing lies there without a name.
 */
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as FsPromises from "node:fs/promises"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { FilesError, type Kind, Trashed } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import { failure, RESERVED_PREFIX } from "../services/FileTree.ts"
import { type Base, type Folder, rawNames, within } from "./HeldFolders.ts"
import { codeOf, fromCause, ignore, orAbsent } from "./HostErrors.ts"
import * as PartFile from "./PartFile.ts"
import * as Placing from "./Placing.ts"
import * as TreeWalk from "./TreeWalk.ts"

const NAME = `${RESERVED_PREFIX}trash`
const ID = /^[0-9a-f]{12}-[0-9a-f]{8}$/
/** Things in the trash; the oldest goes when there are more. */
const MAX_ITEMS = 10_000
/** Milliseconds that a thing takes at most to follow its note. */
const STALE_MS = 3_600_000
/** Bytes: longer notes are none of ours. */
const MAX_NOTE_LENGTH = 16_384

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Trashed))
const encode = Schema.encodeSync(Schema.fromJsonString(Trashed))

export interface Limits {
  /** Milliseconds that things are kept. */
  readonly ttlMs: number
  /** Bytes that all files in the trash may have. */
  readonly maxBytes: number
}

/** Milliseconds since 1970: when it was removed. */
const timeOf = (id: string): number => Number.parseInt(id.slice(0, 12), 16)

/** Ids of the notes, or of the things, oldest first. */
const idsOf = async (trash: Folder, suffix: ".json" | ".item"): Promise<ReadonlyArray<string>> => {
  const ids: Array<string> = []
  for await (const raw of rawNames(trash.at)) {
    const name = typeof raw === "string" ? raw : Buffer.from(raw).toString("latin1")
    const id = name.slice(0, -suffix.length)
    if (name.endsWith(suffix) && ID.test(id) && ids.length < 2 * MAX_ITEMS) ids.push(id)
  }
  return ids.sort()
}

const note = (id: string): string => `${id}.json`
const item = (id: string): string => `${id}.item`

const readNote = async (folder: Folder, id: string): Promise<Trashed | undefined> => {
  const file = await FsPromises.open(`${folder.at}/${note(id)}`, PartFile.openFlags(Fs.constants.O_RDONLY)).catch(
    ignore
  )
  if (file === undefined) return undefined
  try {
    const stats = await file.stat()
    if (!stats.isFile() || stats.size > MAX_NOTE_LENGTH) return undefined
    const decoded = Option.getOrUndefined(decode(await file.readFile("utf8")))
    return decoded?.id === id ? decoded : undefined
  } finally {
    await file.close()
  }
}

const writeNote = async (folder: Folder, trashed: Trashed): Promise<void> => {
  const file = await FsPromises.open(
    `${folder.at}/${note(trashed.id)}`,
    PartFile.createFlags(Fs.constants.O_WRONLY),
    0o600
  )
  try {
    await file.writeFile(encode(trashed))
    await file.sync()
  } finally {
    await file.close()
  }
}

export class Trash {
  readonly #base: Base
  readonly #limits: Limits
  #tail: Promise<unknown> = Promise.resolve()
  /** What was there when it was last read, and changes since; reading thousands of notes for each removal takes too long. */
  #known: ReadonlyArray<Trashed> | undefined

  constructor(base: Base, limits: Limits) {
    this.#base = base
    this.#limits = limits
  }

  /** Moves `folder/name` in. `path` is where it was. */
  add(folder: Folder, name: string, path: RemotePath.RemotePath, kind: Kind): Promise<Trashed> {
    return this.#alone(async (trash) => {
      const { bytes, files } = await TreeWalk.usageOf(folder, name)
      if (bytes > this.#limits.maxBytes)
        throw failure("Unsupported", path, "larger than all that the trash may hold: remove it for ever instead")
      const removedMs = Date.now()
      const id = `${removedMs.toString(16).padStart(12, "0")}-${Crypto.randomBytes(4).toString("hex")}`
      const trashed = new Trashed({ id, path: RemotePath.format(path), kind, bytes, files, removedMs })
      try {
        await writeNote(trash, trashed)
        await trash.sync()
        await FsPromises.rename(`${folder.at}/${name}`, `${trash.at}/${item(id)}`)
      } catch (cause) {
        await FsPromises.unlink(`${trash.at}/${note(id)}`).catch(ignore)
        if (codeOf(cause) !== "EXDEV") throw cause
        throw failure("Unsupported", path, "on another file system than the trash: remove it for ever instead")
      }
      await trash.sync()
      await folder.sync()
      if (this.#known !== undefined) this.#known = [...this.#known, trashed]
      // Only now, and whether or not all of it can go: it takes no more room there than where it was.
      await this.#evict(trash, id).catch(ignore)
      return trashed
    })
  }

  /** Oldest first. */
  list(): Promise<ReadonlyArray<Trashed>> {
    return this.#ifThere([], (trash) => this.#list(trash))
  }

  /** Moves something out to `folder/name`, replacing nothing. */
  restore(id: string, folder: Folder, name: string, path: RemotePath.RemotePath): Promise<Trashed> {
    return this.#alone(async (trash) => {
      const found = ID.test(id) ? await readNote(trash, id) : undefined
      if (found === undefined) throw failure("NotFound", path, "nothing in the trash has this id")
      const from = `${trash.at}/${item(id)}`
      if (found.kind !== "folder") Placing.place(from, folder.at, name, "fail", path)
      else {
        Placing.check(`${folder.at}/${name}`, "fail", path)
        await FsPromises.rename(from, `${folder.at}/${name}`)
      }
      await folder.sync()
      await FsPromises.unlink(`${trash.at}/${note(id)}`)
      this.#known = this.#known?.filter((each) => each.id !== id)
      await trash.sync()
      return found
    })
  }

  find(id: string): Promise<Trashed | undefined> {
    return this.#ifThere(undefined, async (trash) => (ID.test(id) ? readNote(trash, id) : undefined))
  }

  /** Deletes one, or all; how many. */
  empty(id?: string): Promise<number> {
    return this.#alone(async (trash) => {
      const gone = (await this.#list(trash)).filter((each) => id === undefined || each.id === id)
      await this.#deleteAll(
        trash,
        gone.map((each) => each.id)
      )
      await trash.sync()
      return gone.length
    })
  }

  /** Deletes what is too old, and notes without things; of a thing whose note cannot be read its name tells the time. */
  sweep(): Promise<void> {
    return this.#ifThere(undefined, async (trash) => {
      const now = Date.now()
      const { ttlMs } = this.#limits
      await this.#list(trash, true)
      const old = (await idsOf(trash, ".item")).filter((id) => now - timeOf(id) > ttlMs || now < timeOf(id) - ttlMs)
      await this.#deleteAll(trash, old).finally(() => this.#evict(trash))
    })
  }

  /** Deletes what can be; fails with why the first of the others could not. */
  async #deleteAll(trash: Folder, ids: ReadonlyArray<string>): Promise<void> {
    const failures: Array<unknown> = []
    for (const id of ids) await this.#delete(trash, id).catch((cause: unknown) => failures.push(cause))
    if (failures.length > 0) throw failures[0]
  }

  async #delete(trash: Folder, id: string): Promise<void> {
    const known = this.#known?.find((each) => each.id === id)
    // By the name that its owner knows it by.
    const path = Result.getOrElse(RemotePath.parse(known?.path ?? id), () => [id])
    await orAbsent(TreeWalk.deleteTree(trash, item(id), path)).catch((cause: unknown) => {
      const { message, reason } = fromCause(path, cause)
      throw new FilesError({ reason, message: `${message}; what is left of it stays in the trash` })
    })
    await FsPromises.unlink(`${trash.at}/${note(id)}`).catch(ignore)
    this.#known = this.#known?.filter((each) => each.id !== id)
  }

  /** Makes the trash as small as it may be, but for what has just come. */
  async #evict(trash: Folder, newest?: string): Promise<void> {
    const all = this.#known ?? (await this.#list(trash))
    let held = all.reduce((sum, each) => sum + each.bytes, 0)
    let length = all.length
    const gone: Array<string> = []
    for (const { bytes, id } of all) {
      if (held <= this.#limits.maxBytes && length <= MAX_ITEMS) break
      if (id === newest) continue
      gone.push(id)
      held -= bytes
      length--
    }
    await this.#deleteAll(trash, gone)
  }

  async #list(trash: Folder, cleaning = false): Promise<ReadonlyArray<Trashed>> {
    const found: Array<Trashed> = []
    const now = Date.now()
    for (const id of await idsOf(trash, ".json")) {
      const isThere = Placing.look(`${trash.at}/${item(id)}`) !== undefined
      const trashed = isThere ? await readNote(trash, id) : undefined
      if (trashed !== undefined) found.push(trashed)
      // A crash came between note and move, or a host lost its power. Another process's removal is not so slow.
      else if (cleaning && !isThere && Math.abs(now - timeOf(id)) > STALE_MS) {
        await FsPromises.unlink(`${trash.at}/${note(id)}`).catch(ignore)
      }
    }
    this.#known = found
    return found
  }

  /** For what needs no trash to be there. */
  #ifThere<A>(absent: A, use: (trash: Folder) => Promise<A>): Promise<A> {
    const there = Placing.look(`${this.#base.root.at}/${NAME}`) !== undefined
    return there ? this.#alone(use) : Promise.resolve(absent)
  }

  /** One use of the trash at a time. */
  #alone<A>(use: (trash: Folder) => Promise<A>): Promise<A> {
    const next = this.#tail.then(() => within(this.#base, [NAME], use, 0o700))
    this.#tail = next.catch(ignore)
    return next
  }
}
