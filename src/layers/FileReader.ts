/** Reading a file that stays the one it was when it was opened. */
import * as Fs from "node:fs"
import * as FsPromises from "node:fs/promises"
import type { FilesError } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import { failure, MAX_READ_LENGTH, type Reader } from "../services/FileTree.ts"
import { facts, type Stats, versionOf } from "./FileFacts.ts"
import { type Base, ensureInside, SAFE, within } from "./HeldFolders.ts"
import { attempt, ignore } from "./HostErrors.ts"

/** Bytes that copies read at a time. */
export const READ_LENGTH = MAX_READ_LENGTH

/** Fails with `Changed` if a file that was `stats` when it was opened has been written to by `now`. */
export const ensureSame = (stats: Stats, now: Stats, path: RemotePath.RemotePath): void => {
  // Losing a name (it was replaced or removed) changes ctime, but not what is read here.
  const sameNames = now.nlink === stats.nlink
  if (now.size !== stats.size || now.mtimeNs !== stats.mtimeNs || (sameNames && now.ctimeNs !== stats.ctimeNs))
    throw failure("Changed", path, "it was changed while it was read")
}

/** What a file of the kernel is, below /proc say: it says that it is empty, and is not. */
export const lengthless = (path: RemotePath.RemotePath): FilesError =>
  failure("Unsupported", path, "it has content but no length: what reads it has to be sent instead (put -)")

export interface Opened {
  readonly reader: Reader
  /** As `reader.readAt`; fails with what `ensureSame` does, too. */
  readonly read: (offset: number, length: number) => Promise<Uint8Array>
  readonly close: () => Promise<void>
}

export const open = (base: Base, path: RemotePath.RemotePath): Promise<Opened> =>
  within(base, path.slice(0, -1), async (folder) => {
    const at = `${folder.at}/${path.at(-1) ?? "."}`
    const looked = await FsPromises.lstat(at, { bigint: true })
    // Not opened to find out: opening a device can do things.
    if (!looked.isFile()) throw failure("NotAFile", path)
    const file = await FsPromises.open(at, Fs.constants.O_RDONLY | SAFE)
    const close = () => file.close().catch(ignore)
    try {
      const stats = await file.stat({ bigint: true })
      if (stats.dev !== looked.dev || stats.ino !== looked.ino) throw failure("Changed", path)
      await ensureInside(folder, path)
      const { mode, mtimeMs, size } = facts(stats)
      const check = async (): Promise<void> => ensureSame(stats, await file.stat({ bigint: true }), path)
      const readAt = async (offset: number, length: number): Promise<Uint8Array> => {
        const wanted = Math.max(0, Math.min(length, MAX_READ_LENGTH, size - offset))
        const bytes = new Uint8Array(wanted)
        let done = 0
        while (done < wanted) {
          const { bytesRead } = await file.read(bytes, done, wanted - done, offset + done)
          if (bytesRead === 0) throw failure("Changed", path, "it became shorter while it was read")
          done += bytesRead
        }
        return bytes
      }
      if (size === 0 && (await file.read(new Uint8Array(1), 0, 1, 0)).bytesRead > 0) {
        await check()
        throw lengthless(path)
      }
      const reader: Reader = {
        path: RemotePath.format(path),
        size,
        mtimeMs,
        mode,
        version: versionOf(stats),
        readAt: (offset, length) => attempt(path, () => readAt(offset, length)),
        unchanged: attempt(path, check)
      }
      const read = async (offset: number, length: number): Promise<Uint8Array> => {
        const bytes = await readAt(offset, length)
        await check()
        return bytes
      }
      return { reader, read, close }
    } catch (cause) {
      await close()
      throw cause
    }
  })
