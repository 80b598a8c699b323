/**
 * What was removed, kept for a while in `.clawchat-trash` below the base: `<id>.json` says what it is, `<id>.item` is the
 * thing itself. The first is durable before the second is moved in, so nothing lies there without a name.
 */
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as FsPromises from "node:fs/promises"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type Kind, Trashed } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import { failure, RESERVED_PREFIX } from "../services/FileTree.ts"
import { type Base, type Folder, rawNames, within } from "./HeldFolders.ts"
import { ignore, orAbsent } from "./HostErrors.ts"
import * as PartFile from "./PartFile.ts"
import * as Placing from "./Placing.ts"
import * as TreeWalk from "./TreeWalk.ts"

export const NAME = `${RESERVED_PREFIX}trash`
const ID = /^[0-9a-f]{12}-[0-9a-f]{8}$/
/** Things in the trash; the oldest goes when there are more. */
const MAX_ITEMS = 10_000
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
      await this.#evict(trash, bytes)
      try {
        await writeNote(trash, trashed)
        await trash.sync()
        await FsPromises.rename(`${folder.at}/${name}`, `${trash.at}/${item(id)}`)
      } catch (cause) {
        await FsPromises.unlink(`${trash.at}/${note(id)}`).catch(ignore)
        throw cause
      }
      await trash.sync()
      await folder.sync()
      this.#known = [...(this.#known ?? []), trashed]
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
      if (found.kind === "file") Placing.place(from, folder.at, name, "fail", path)
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
      for (const each of gone) await this.#delete(trash, each.id)
      await trash.sync()
      return gone.length
    })
  }

  /** Deletes what is too old, and notes without things. */
  sweep(): Promise<void> {
    return this.#ifThere(undefined, async (trash) => {
      const now = Date.now()
      for (const each of await this.#list(trash, true))
        if (now - each.removedMs > this.#limits.ttlMs || now < each.removedMs - this.#limits.ttlMs)
          await this.#delete(trash, each.id)
      await this.#evict(trash, 0)
    })
  }

  async #delete(trash: Folder, id: string): Promise<void> {
    await orAbsent(TreeWalk.deleteTree(trash, item(id), [id]))
    await FsPromises.unlink(`${trash.at}/${note(id)}`).catch(ignore)
    this.#known = this.#known?.filter((each) => each.id !== id)
  }

  /** Makes room for so many bytes and one more thing. */
  async #evict(trash: Folder, bytes: number): Promise<void> {
    const all = this.#known ?? (await this.#list(trash))
    let held = all.reduce((sum, each) => sum + each.bytes, 0)
    let length = all.length
    for (const each of all) {
      if (held + bytes <= this.#limits.maxBytes && length < MAX_ITEMS) return
      await this.#delete(trash, each.id)
      held -= each.bytes
      length--
    }
  }

  async #list(trash: Folder, cleaning = false): Promise<ReadonlyArray<Trashed>> {
    const ids: Array<string> = []
    for await (const raw of rawNames(trash.at)) {
      const [, id] = /^(.*)\.json$/.exec(typeof raw === "string" ? raw : Buffer.from(raw).toString("latin1")) ?? []
      if (id !== undefined && ID.test(id) && ids.length < 2 * MAX_ITEMS) ids.push(id)
    }
    const found: Array<Trashed> = []
    for (const id of ids.sort()) {
      const trashed = await readNote(trash, id)
      if (trashed !== undefined && Placing.look(`${trash.at}/${item(id)}`) !== undefined) found.push(trashed)
      // A crash came between note and move, or a host lost its power; a live removal holds the lock.
      else if (cleaning) await FsPromises.unlink(`${trash.at}/${note(id)}`).catch(ignore)
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
