/**
 * Unfinished files on the disk: `.clawchat-part-<key>-<pid>-<random>` beside the target, and beside it `.sums` with what
 * is known to be in it. The key is made of target, size and fingerprint, so a later write of the same content finds it.
 *
 * `.sums` is a list of 33-byte records, appended: `B` and the SHA-256 of the next block, written after the block; `S` and the
 * number of blocks (8 bytes, big-endian) that have been fsynced, written after that fsync and fsynced itself. After a
 * crash of the program all blocks are there; after one of the system those before the last `S` are. So blocks after it, and
 * those that the part is too short for, are read and compared once; what does not fit ends the list. Whoever goes on
 * renames the part to a name of its own first: of two that try, one succeeds.
 */
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as FsPromises from "node:fs/promises"
import { BLOCK_LENGTH } from "../domain/RemoteFile.ts"
import { RESERVED_PREFIX } from "../services/FileTree.ts"
import { type Folder, SAFE } from "./HeldFolders.ts"
import { codeOf, ignore, orAbsent } from "./HostErrors.ts"

/** Milliseconds: an unfinished file that nobody has touched for so long is removed. */
export const PART_TTL_MS = 3 * 86_400_000
/**
 * A live pid may belong to a later process. Where the host does not say what that holds open, its part may be taken past this
 * age, in milliseconds.
 */
const ABANDONED_MS = 600_000
const PREFIX = `${RESERVED_PREFIX}part-`
const SUMS = ".sums"
const NAME = /^\.clawchat-part-([0-9a-f]{24})-(\d+)-[0-9a-f]{12}$/
const RECORD_LENGTH = 33
const BLOCK_RECORD = 0x42
const SYNC_RECORD = 0x53
const CREATE = Fs.constants.O_CREAT | Fs.constants.O_EXCL | SAFE

/** What a part for this content is called, but for who writes it. */
export const keyOf = (name: string, size: number | undefined, fingerprint: string): string =>
  Crypto.createHash("sha256")
    .update(JSON.stringify([name, size ?? null, fingerprint]))
    .digest("hex")
    .slice(0, 24)

/** A name for a new part; without a key nobody finds it again. */
export const newName = (key = Crypto.randomBytes(12).toString("hex")): string =>
  `${PREFIX}${key}-${process.pid}-${Crypto.randomBytes(6).toString("hex")}`

const sumsOf = (name: string): string => `${name}${SUMS}`

/** Key and writer of a part's name; undefined for every other name. */
export const parseName = (name: string): { readonly key: string; readonly pid: number } | undefined => {
  const match = NAME.exec(name)
  return match === null ? undefined : { key: match[1] ?? "", pid: Number(match[2]) }
}

/** The part that a name is of, its own or its list's of sums; undefined for every other name. */
export const partOf = (name: string): string | undefined => {
  const part = name.endsWith(SUMS) ? name.slice(0, -SUMS.length) : name
  return parseName(part) === undefined ? undefined : part
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (cause) {
    return codeOf(cause) !== "ESRCH"
  }
}

/** Whether a process holds a file open; undefined where the host does not say. */
const isHeld = async (pid: number, { dev, ino }: Fs.Stats): Promise<boolean | undefined> => {
  const folder = `/proc/${pid}/fd`
  const open = await FsPromises.readdir(folder).catch(ignore)
  for (const name of open ?? []) {
    const stats = await FsPromises.stat(`${folder}/${name}`).catch(ignore)
    if (stats?.dev === dev && stats.ino === ino) return true
  }
  return open === undefined ? undefined : false
}

export const createFlags = (access: number): number => CREATE | access
/** For reading and writing what is there; fails for links, and the kind is to be asked. */
export const openFlags = (access: number): number => SAFE | access

export const removeSums = (folder: Folder, name: string): Promise<void> =>
  FsPromises.unlink(`${folder.at}/${sumsOf(name)}`).catch(ignore)

/** Removes a part with its sums. Names that are gone are fine. */
export const remove = async (folder: Folder, name: string): Promise<void> => {
  await FsPromises.unlink(`${folder.at}/${name}`).catch(ignore)
  await removeSums(folder, name)
}

const ZEROS = new Uint8Array(BLOCK_LENGTH)

/** Bytes of a block as they are on the disk; what a hole at the end leaves out is zero. */
const readBlock = async (file: FsPromises.FileHandle, block: number, into: Uint8Array): Promise<void> => {
  into.set(ZEROS)
  let length = 0
  while (length < BLOCK_LENGTH) {
    const { bytesRead } = await file.read(into, length, BLOCK_LENGTH - length, block * BLOCK_LENGTH + length)
    if (bytesRead === 0) return
    length += bytesRead
  }
}

/** The blocks that a part surely holds, 32 bytes each, and the length of the records that say so. */
const verified = async (
  file: FsPromises.FileHandle,
  records: Uint8Array,
  most: number
): Promise<{ readonly hashes: Uint8Array; readonly length: number }> => {
  const hashes: Array<Uint8Array> = []
  const offsets: Array<number> = []
  let synced = 0
  let end = 0
  while (end + RECORD_LENGTH <= records.length && hashes.length < most) {
    const record = records.subarray(end + 1, end + RECORD_LENGTH)
    if (records[end] === BLOCK_RECORD) {
      offsets.push(end)
      hashes.push(record)
    } else {
      const count = Number(Buffer.from(record.buffer, record.byteOffset, 8).readBigUInt64BE(0))
      if (records[end] !== SYNC_RECORD || count > hashes.length) break
      synced = count
    }
    end += RECORD_LENGTH
  }
  const block = new Uint8Array(BLOCK_LENGTH)
  const { size } = await file.stat()
  for (let i = Math.min(synced, Math.floor(size / BLOCK_LENGTH)); i < hashes.length; i++) {
    await readBlock(file, i, block)
    if (
      Crypto.createHash("sha256")
        .update(block)
        .digest()
        .equals(hashes[i] ?? ZEROS)
    )
      continue
    hashes.splice(i)
    end = offsets[i] ?? 0
    break
  }
  return { hashes: Buffer.concat(hashes), length: end }
}

export interface Part {
  readonly name: string
  readonly file: FsPromises.FileHandle
  readonly sums: FsPromises.FileHandle | undefined
  /** Of the blocks in it, 32 bytes each. */
  readonly hashes: Uint8Array
}

/** Appends records for blocks, 32 bytes of hash each. */
export const appendBlocks = async (sums: FsPromises.FileHandle, hashes: Uint8Array): Promise<void> => {
  if (hashes.length === 0) return
  const records = new Uint8Array((hashes.length / 32) * RECORD_LENGTH)
  for (let from = 0, to = 0; from < hashes.length; from += 32, to += RECORD_LENGTH) {
    records[to] = BLOCK_RECORD
    records.set(hashes.subarray(from, from + 32), to + 1)
  }
  await sums.appendFile(records)
}

/** Notes that `blocks` blocks are on the disk, once they are. */
export const appendSynced = async (sums: FsPromises.FileHandle, blocks: number): Promise<void> => {
  const record = Buffer.alloc(RECORD_LENGTH)
  record[0] = SYNC_RECORD
  record.writeBigUInt64BE(BigInt(blocks), 1)
  await sums.appendFile(record)
  await sums.datasync()
}

export const startSums = (folder: Folder, name: string): Promise<FsPromises.FileHandle> =>
  FsPromises.open(`${folder.at}/${sumsOf(name)}`, createFlags(Fs.constants.O_WRONLY), 0o600)

/** A new, empty part. */
export const create = async (folder: Folder, name: string): Promise<Part> => ({
  name,
  file: await FsPromises.open(`${folder.at}/${name}`, createFlags(Fs.constants.O_RDWR), 0o600),
  sums: undefined,
  hashes: new Uint8Array(0)
})

/**
 * Takes a part that was left behind, if nobody alive writes it. `most` is the number of whole blocks that the file can
 * have. Undefined where nothing of use is left; then it is gone from the disk, unless somebody else has it.
 */
export const take = async (folder: Folder, name: string, key: string, most: number): Promise<Part | undefined> => {
  const pid = parseName(name)?.pid ?? 0
  const stats = await orAbsent(FsPromises.lstat(`${folder.at}/${name}`))
  if (stats === undefined) return undefined
  if (pid !== process.pid && isAlive(pid)) {
    if ((await isHeld(pid, stats)) ?? Date.now() - stats.mtimeMs < ABANDONED_MS) return undefined
  }
  const mine = newName(key)
  if (!rename(folder.at, name, mine)) return undefined
  const opened: Array<FsPromises.FileHandle> = []
  try {
    const file = await FsPromises.open(`${folder.at}/${mine}`, openFlags(Fs.constants.O_RDWR))
    opened.push(file)
    const sums = await FsPromises.open(
      `${folder.at}/${sumsOf(mine)}`,
      openFlags(Fs.constants.O_RDWR | Fs.constants.O_APPEND)
    ).catch(ignore)
    if (sums !== undefined) {
      opened.push(sums)
      const { hashes, length } = await verified(file, await readRecords(file, sums, most), most)
      if (hashes.length > 0) {
        await file.truncate((hashes.length / 32) * BLOCK_LENGTH)
        await sums.truncate(length)
        return { name: mine, file, sums, hashes }
      }
    }
  } catch (cause) {
    for (const each of opened) await each.close().catch(ignore)
    throw cause
  }
  for (const each of opened) await each.close().catch(ignore)
  await remove(folder, mine)
  return undefined
}

/** Both names at once, as nearly as can be: a crash between the two costs what was sent. */
const rename = (folder: string, from: string, to: string): boolean => {
  try {
    Fs.renameSync(`${folder}/${from}`, `${folder}/${to}`)
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return false
    throw cause
  }
  try {
    Fs.renameSync(`${folder}/${sumsOf(from)}`, `${folder}/${sumsOf(to)}`)
  } catch (cause) {
    if (codeOf(cause) !== "ENOENT") throw cause
  }
  return true
}

/**
 * All records, unless either is no plain file or there are more than a file of `most` blocks can have. A part of two names is a
 * file already: a crash came between link(2) and unlink(2).
 */
const readRecords = async (
  file: FsPromises.FileHandle,
  sums: FsPromises.FileHandle,
  most: number
): Promise<Uint8Array> => {
  const { size } = await sums.stat()
  const kinds = await Promise.all([file.stat(), sums.stat()])
  if (!kinds.every((stats) => stats.isFile() && stats.nlink === 1) || size > RECORD_LENGTH * (2 * most + 64))
    return new Uint8Array(0)
  return sums.readFile()
}
