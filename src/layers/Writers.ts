/** Beginning writes: finds what broken ones left, takes turns on one target, and sweeps what nobody came back for. */
import * as FsPromises from "node:fs/promises"
import { BLOCK_LENGTH } from "../domain/RemoteFile.ts"
import type * as RemotePath from "../domain/RemotePath.ts"
import { failure, MAX_FILE_LENGTH, type WriteOptions } from "../services/FileTree.ts"
import { FileWriter, type Ledger } from "./FileWriter.ts"
import { type Base, ensureInside, type Folder, open, readNames } from "./HeldFolders.ts"
import { ignore, orAbsent } from "./HostErrors.ts"
import * as PartFile from "./PartFile.ts"
import * as Placing from "./Placing.ts"
import type { Usage } from "./Usage.ts"

/** Folders whose parts are known; the one unused for longest is forgotten. */
const MAX_FOLDERS = 1024
/** Bytes: writes below this do not ask how much is free. */
const ASK_FREE = 1024 * 1024

const idOf = async (folder: Folder): Promise<string> => {
  const { dev, ino } = await FsPromises.stat(`${folder.at}/.`, { bigint: true })
  return `${dev} ${ino}`
}

/** Bytes that this process may still put on the file system of a folder. */
export const freeIn = async (folder: Folder): Promise<number> => {
  const { bavail, bsize } = await FsPromises.statfs(`${folder.at}/.`)
  return bavail * bsize
}

export class Writers {
  readonly #base: Base
  readonly #usage: Usage
  /** By folder: names of parts that nobody here writes, by key. */
  readonly #left = new Map<string, Map<string, string>>()
  /** By folder and key. */
  readonly #open = new Map<string, FileWriter>()
  /** Names of parts that are written here: no two are the same. */
  readonly #writing = new Set<string>()

  constructor(base: Base, usage: Usage) {
    this.#base = base
    this.#usage = usage
  }

  /**
   * Deletes parts among a folder's own names that are past their time; the bytes of those that stay. Those that are written
   * here are neither old, whatever the clock says, nor counted, as their bytes are reserved.
   */
  readonly sweep = async (folder: Folder, reserved: ReadonlyArray<string>): Promise<number> => {
    const now = Date.now()
    let bytes = 0
    for (const name of reserved) {
      const part = PartFile.partOf(name)
      if (part === undefined || this.#writing.has(part)) continue
      const stats = await FsPromises.lstat(`${folder.at}/${name}`).catch(ignore)
      if (stats === undefined) continue
      if (now - Math.max(stats.mtimeMs, stats.ctimeMs) <= PartFile.PART_TTL_MS) bytes += stats.size
      else await FsPromises.unlink(`${folder.at}/${name}`).catch(ignore)
    }
    return bytes
  }

  /** The writer owns all it needs until it is closed. */
  async begin(path: RemotePath.RemotePath, options: WriteOptions): Promise<FileWriter> {
    const { conflict = "fail", fingerprint, mode, mtimeMs, size } = options
    const name = path.at(-1)
    if (name === undefined) throw failure("Exists", path)
    if (size !== undefined && !(Number.isSafeInteger(size) && size >= 0 && size <= MAX_FILE_LENGTH))
      throw failure("NoSpace", path, "longer than any file may be")
    const folder = await open(this.#base, path.slice(0, -1), options.parents === true ? 0o777 : undefined)
    let taken: PartFile.Part | undefined
    let putBack = (): void => {}
    let isCounted = false
    let reserved = 0
    try {
      await ensureInside(folder, path)
      const at = `${folder.at}/${name}`
      const replaced = Placing.check(at, conflict, path)
      const keeps = fingerprint !== undefined && (size === undefined || size > BLOCK_LENGTH)
      const key = keeps ? PartFile.keyOf(name, size, fingerprint) : undefined
      const id = key === undefined ? "" : await idOf(folder)
      const part = key === undefined ? undefined : await this.#take(folder, id, key, size)
      taken = part
      putBack = () => {
        if (part === undefined || key === undefined) return
        this.#left.get(id)?.set(key, part.name)
        this.#usage.add(part.hashes.length * (BLOCK_LENGTH / 32), 0)
      }
      if (replaced === undefined) this.#usage.begin(path)
      isCounted = replaced === undefined
      const there = (part?.hashes.length ?? 0) * (BLOCK_LENGTH / 32)
      const total = size ?? there
      this.#usage.reserve(total, path)
      reserved = total
      const needed = total - there
      if (needed >= ASK_FREE && needed > (await freeIn(folder)))
        throw failure("NoSpace", path, `${needed} bytes do not fit on the disk`)
      taken ??= await PartFile.create(folder, PartFile.newName(key))
      const { name: partName } = taken
      this.#writing.add(partName)
      const place = `${id} ${key}`
      const writer: FileWriter = new FileWriter(
        folder,
        taken,
        { path, size, mtimeMs, mode, conflict, keeps },
        this.#ledger(path),
        reserved,
        (kept) => {
          this.#writing.delete(partName)
          if (isCounted) this.#usage.end()
          // What is kept takes its room as files do, until somebody goes on with it.
          if (kept !== undefined) this.#usage.add(writer.blocks.length * (BLOCK_LENGTH / 32), 0)
          if (key === undefined) return
          if (this.#open.get(place) === writer) this.#open.delete(place)
          if (kept !== undefined) this.#left.get(id)?.set(key, kept)
        }
      )
      if (key !== undefined) this.#open.set(place, writer)
      return writer
    } catch (cause) {
      if (isCounted) this.#usage.end()
      this.#usage.release(reserved)
      putBack()
      await taken?.file.close().catch(ignore)
      await taken?.sums?.close().catch(ignore)
      await folder.close()
      throw cause
    }
  }

  #ledger(path: RemotePath.RemotePath): Ledger {
    return {
      reserve: (bytes) => this.#usage.reserve(bytes, path),
      release: (bytes) => this.#usage.release(bytes),
      committed: (bytes, replaced) => this.#usage.add(bytes - (replaced ?? 0), replaced === undefined ? 1 : 0)
    }
  }

  /**
   * What is left of a broken write of the same content. Who writes it here still, on a line that broke unnoticed, say, is
   * ended first: the newer write goes on.
   */
  async #take(folder: Folder, id: string, key: string, size: number | undefined): Promise<PartFile.Part | undefined> {
    await this.#open.get(`${id} ${key}`)?.close()
    const left = await this.#known(folder, id)
    const name = left.get(key)
    if (name === undefined) return undefined
    left.delete(key)
    const most = Math.floor((size ?? MAX_FILE_LENGTH) / BLOCK_LENGTH)
    const part = await PartFile.take(folder, name, key, most)
    if (part !== undefined) this.#usage.add(-part.hashes.length * (BLOCK_LENGTH / 32), 0)
    // Somebody else has it: it may be left again.
    if (part === undefined && (await orAbsent(FsPromises.lstat(`${folder.at}/${name}`))) !== undefined)
      left.set(key, name)
    return part
  }

  /** Parts in a folder. It is read once: parts that other processes leave later are not found, only sent again. */
  async #known(folder: Folder, id: string): Promise<Map<string, string>> {
    let left = this.#left.get(id)
    if (left === undefined) {
      left = new Map()
      const { reserved } = await readNames(folder, []).catch(() => ({ reserved: [] }))
      await this.sweep(folder, reserved)
      for (const name of reserved) {
        const part = PartFile.parseName(name)
        if (part !== undefined) left.set(part.key, name)
      }
      const [oldest] = this.#left.keys()
      if (this.#left.size >= MAX_FOLDERS && oldest !== undefined) this.#left.delete(oldest)
    } else this.#left.delete(id)
    this.#left.set(id, left)
    return left
  }
}
