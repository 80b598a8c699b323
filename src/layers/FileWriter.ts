/**
 * Writing one file so that its name shows the old content or the new, whenever the process or the host dies: a hidden
 * part beside it (PartFile), filled in order, fsynced, given its name (Placing), and the folder fsynced.
 */
import * as Crypto from "node:crypto"
import type * as FsPromises from "node:fs/promises"
import { BLOCK_LENGTH, type Stat } from "../domain/RemoteFile.ts"
import type * as RemotePath from "../domain/RemotePath.ts"
import { type Conflict, failure } from "../services/FileTree.ts"
import { fileMode, stat } from "./FileFacts.ts"
import { ensureInside, type Folder } from "./HeldFolders.ts"
import { fromCause, ignore } from "./HostErrors.ts"
import * as PartFile from "./PartFile.ts"
import * as Placing from "./Placing.ts"

/** Bytes between fsyncs while a file grows: what is read again after a power failure, and what the last fsync waits for. */
const SYNC_LENGTH = 64 * 1024 * 1024
/** Bytes: a run of zeros at least so long becomes a hole. */
const HOLE_LENGTH = 4096
const ZEROS = new Uint8Array(1024 * 1024)

const isZero = (bytes: Uint8Array): boolean =>
  bytes.length >= HOLE_LENGTH &&
  bytes[0] === 0 &&
  bytes.length <= ZEROS.length &&
  Buffer.compare(bytes, ZEROS.subarray(0, bytes.length)) === 0

/** futimes(2) by way of a double cuts to the microsecond below: half a one more and the millisecond stays. */
export const seconds = (mtimeMs: number): number => (mtimeMs + 0.0005) / 1000

export interface Target {
  readonly path: RemotePath.RemotePath
  readonly size: number | undefined
  readonly mtimeMs: number | undefined
  readonly mode: number | undefined
  readonly conflict: Conflict
  /** Whether a broken write is worth keeping. */
  readonly keeps: boolean
}

/** What the writer tells of bytes and files; the quota listens. */
export interface Ledger {
  /** Fails with `Quota` where so many more bytes do not fit. */
  readonly reserve: (bytes: number) => void
  readonly release: (bytes: number) => void
  readonly committed: (bytes: number, replaced: number | undefined) => void
}

/** A file being written. Every call waits for the one before it; after the first failure all others fail. */
export class FileWriter {
  readonly resumed: number
  #length: number
  #hashes: Uint8Array
  #blocks: number
  /** Blocks whose records are in the sums. */
  #recorded: number
  #syncedAt: number
  #hash = Crypto.createHash("sha256")
  #reserved: number
  #state: "open" | "committed" | "closed" = "open"
  #tail: Promise<unknown> = Promise.resolve()
  #sums: FsPromises.FileHandle | undefined
  readonly #folder: Folder
  readonly #part: PartFile.Part
  readonly #target: Target
  readonly #ledger: Ledger
  readonly #onClosed: (kept: string | undefined) => void

  /** Owns folder and part from now on; `reserved` bytes are the ledger's already. `onClosed` hears of the part that is kept. */
  constructor(
    folder: Folder,
    part: PartFile.Part,
    target: Target,
    ledger: Ledger,
    reserved: number,
    onClosed: (kept: string | undefined) => void
  ) {
    this.#folder = folder
    this.#part = part
    this.#target = target
    this.#ledger = ledger
    this.#reserved = reserved
    this.#onClosed = onClosed
    this.#hashes = part.hashes
    this.#blocks = part.hashes.length / 32
    this.#recorded = this.#blocks
    this.#sums = part.sums
    this.resumed = this.#blocks * BLOCK_LENGTH
    this.#length = this.resumed
    this.#syncedAt = this.resumed
  }

  get length(): number {
    return this.#length
  }

  get blocks(): Uint8Array {
    return this.#hashes.subarray(0, this.#blocks * 32)
  }

  append(bytes: Uint8Array): Promise<void> {
    return this.#next(() => this.#append(bytes))
  }

  commit(): Promise<Stat> {
    return this.#next(() => this.#commit())
  }

  abort(): Promise<void> {
    return this.#last(false)
  }

  /** Closes what is open; whole blocks stay if they are worth keeping. */
  close(): Promise<void> {
    return this.#last(this.#target.keeps)
  }

  #next<A>(run: () => Promise<A>): Promise<A> {
    const next = this.#tail.then(() => {
      if (this.#state === "open") return run()
      throw failure("Changed", this.#target.path, "this write has ended, or another one goes on where it was")
    })
    this.#tail = next.then(ignore, async (cause: unknown) => {
      if (this.#state !== "open") return
      const { reason } = fromCause(this.#target.path, cause)
      // On a full disk the space is needed now.
      await this.#end(this.#target.keeps && reason !== "NoSpace" && reason !== "Quota").catch(ignore)
    })
    return next
  }

  #last(keep: boolean): Promise<void> {
    const ended = this.#tail.then(() => (this.#state === "open" ? this.#end(keep) : undefined))
    this.#tail = ended
    return ended
  }

  async #append(bytes: Uint8Array): Promise<void> {
    const { path, size } = this.#target
    if (bytes.length === 0) return
    if (size !== undefined && this.#length + bytes.length > size)
      throw failure("Changed", path, `more than the ${size} bytes that were announced`)
    const missing = this.#length + bytes.length - this.#reserved
    if (missing > 0) {
      this.#ledger.reserve(missing)
      this.#reserved += missing
    }
    if (!isZero(bytes)) await this.#write(bytes)
    this.#digest(bytes)
    // Not for what is about to be committed: files of few blocks need no sums.
    if (this.#length !== this.#target.size) await this.#record()
    if (this.#length - this.#syncedAt >= SYNC_LENGTH) await this.#sync()
  }

  async #write(bytes: Uint8Array): Promise<void> {
    let done = 0
    while (done < bytes.length) {
      const { bytesWritten } = await this.#part.file.write(bytes, done, bytes.length - done, this.#length + done)
      if (bytesWritten === 0) throw failure("NoSpace", this.#target.path)
      done += bytesWritten
    }
  }

  #digest(bytes: Uint8Array): void {
    let from = 0
    while (from < bytes.length) {
      const length = Math.min(bytes.length - from, BLOCK_LENGTH - (this.#length % BLOCK_LENGTH))
      this.#hash.update(bytes.subarray(from, from + length))
      this.#length += length
      from += length
      if (this.#length % BLOCK_LENGTH === 0 || this.#length === this.#target.size) this.#endBlock()
    }
  }

  #endBlock(): void {
    const at = this.#blocks * 32
    if (at + 32 > this.#hashes.length) {
      const larger = new Uint8Array(Math.max(1024, this.#hashes.length * 2, at + 32))
      larger.set(this.#hashes.subarray(0, at))
      this.#hashes = larger
    }
    this.#hashes.set(this.#hash.digest(), at)
    this.#hash = Crypto.createHash("sha256")
    this.#blocks++
  }

  /** Notes whole blocks beside the part. */
  async #record(): Promise<void> {
    const whole = Math.floor(this.#length / BLOCK_LENGTH)
    if (!this.#target.keeps || whole <= this.#recorded) return
    if (this.#sums === undefined) this.#sums = await PartFile.startSums(this.#folder, this.#part.name)
    await PartFile.appendBlocks(this.#sums, this.#hashes.subarray(this.#recorded * 32, whole * 32))
    this.#recorded = whole
  }

  async #sync(): Promise<void> {
    await this.#part.file.datasync()
    if (this.#sums !== undefined) await PartFile.appendSynced(this.#sums, this.#recorded)
    this.#syncedAt = this.#length
  }

  async #commit(): Promise<Stat> {
    const { conflict, mode, mtimeMs, path, size } = this.#target
    const { file } = this.#part
    if (size !== undefined && this.#length !== size)
      throw failure("Changed", path, `${this.#length} bytes came where ${size} were announced`)
    if (size === undefined && this.#length % BLOCK_LENGTH !== 0) this.#endBlock()
    await file.truncate(this.#length)
    await file.chmod(fileMode(mode))
    if (mtimeMs !== undefined) await file.utimes(seconds(mtimeMs), seconds(mtimeMs))
    await file.sync()
    await ensureInside(this.#folder, path)
    const at = `${this.#folder.at}/${this.#part.name}`
    const placed = Placing.place(at, this.#folder.at, path.at(-1) ?? "", conflict, path)
    this.#state = "committed"
    this.#ledger.committed(this.#length, placed.replaced)
    const found = await file.stat({ bigint: true }).finally(() => this.#finish(true))
    return stat([...path.slice(0, -1), placed.name], found)
  }

  async #end(keep: boolean): Promise<void> {
    this.#state = "closed"
    let kept = false
    if (keep && this.#length >= BLOCK_LENGTH) {
      await this.#record().then(() => this.#sync(), ignore)
      kept = this.#recorded > 0
    }
    await this.#finish(false, kept)
  }

  async #finish(committed: boolean, kept = false): Promise<void> {
    const folder = this.#folder
    this.#ledger.release(this.#reserved)
    this.#reserved = 0
    try {
      await this.#part.file.close().catch(ignore)
      if (this.#sums !== undefined) await this.#sums.close().catch(ignore)
      if (committed) {
        if (this.#sums !== undefined) await PartFile.removeSums(folder, this.#part.name)
        await folder.sync()
      } else if (!kept) await PartFile.remove(folder, this.#part.name)
    } finally {
      await folder.close()
      this.#onClosed(kept ? this.#part.name : undefined)
    }
  }
}
