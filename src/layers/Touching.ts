/** Giving a file another time and mode. */
import * as Fs from "node:fs"
import * as FsPromises from "node:fs/promises"
import type { Stat } from "../domain/RemoteFile.ts"
import type * as RemotePath from "../domain/RemotePath.ts"
import { failure, type TouchOptions } from "../services/FileTree.ts"
import { fileMode, stat, versionOf } from "./FileFacts.ts"
import { seconds } from "./FileWriter.ts"
import { type Base, ensureInside, SAFE, within } from "./HeldFolders.ts"

/** Windows sets nothing through a descriptor that only reads. */
const FLAGS = (process.platform === "win32" ? Fs.constants.O_RDWR : Fs.constants.O_RDONLY) | SAFE

/** Nothing is done by name: what was opened is what was looked at, is of the version that is meant, and is what changes. */
export const touch = (base: Base, path: RemotePath.RemotePath, to: TouchOptions): Promise<Stat> =>
  within(base, path.slice(0, -1), async (folder) => {
    const at = `${folder.at}/${path.at(-1) ?? "."}`
    const looked = await FsPromises.lstat(at, { bigint: true })
    // Not opened to find out: opening a device can do things.
    if (!looked.isFile()) throw failure("NotAFile", path)
    if (versionOf(looked) !== to.version) throw failure("Changed", path)
    const file = await FsPromises.open(at, FLAGS)
    try {
      await ensureInside(folder, path)
      // Blocking calls, one after the other: whoever writes to it between them would be hidden behind the time that is set.
      const stats = Fs.fstatSync(file.fd, { bigint: true })
      if (!stats.isFile() || versionOf(stats) !== to.version) throw failure("Changed", path)
      Fs.futimesSync(file.fd, Number(stats.atimeMs) / 1000, seconds(to.mtimeMs))
      const mode = fileMode(to.mode)
      if ((Number(stats.mode) & 0o7777) !== mode) Fs.fchmodSync(file.fd, mode)
      await file.sync()
      return stat(path, await file.stat({ bigint: true }))
    } finally {
      await file.close()
    }
  })
