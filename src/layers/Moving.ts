/** Giving files and folders other names within a tree. */
import * as FsPromises from "node:fs/promises"
import type { Stat } from "../domain/RemoteFile.ts"
import type * as RemotePath from "../domain/RemotePath.ts"
import { type Conflict, failure, itself, MAX_NUMBERED, numbered } from "../services/FileTree.ts"
import { stat } from "./FileFacts.ts"
import { type Base, ensureInside, type Folder, within } from "./HeldFolders.ts"
import * as Placing from "./Placing.ts"

/** Whether a path is the other one or lies below it. */
export const isWithin = (path: RemotePath.RemotePath, above: RemotePath.RemotePath): boolean =>
  above.length <= path.length && above.every((name, i) => path[i] === name)

/** rename(2) replaces an empty folder by a folder; nothing is lost if one was made between the look and the move. */
const moveFolder = async (
  from: string,
  folder: Folder,
  name: string,
  conflict: Conflict,
  path: RemotePath.RemotePath
): Promise<string> => {
  for (let number = 1; number < MAX_NUMBERED; number++) {
    const tried = number === 1 ? name : numbered(name, number)
    if (Placing.look(`${folder.at}/${tried}`) === undefined) {
      await FsPromises.rename(from, `${folder.at}/${tried}`)
      return tried
    }
    if (conflict !== "rename") break
  }
  throw failure("Exists", path)
}

/** `onReplaced` hears the bytes of a file that went. */
export const move = (
  base: Base,
  from: RemotePath.RemotePath,
  to: RemotePath.RemotePath,
  conflict: Conflict,
  onReplaced: (bytes: number) => void
): Promise<Stat> => {
  const oldName = from.at(-1) ?? ""
  const newName = to.at(-1) ?? ""
  return within(base, from.slice(0, -1), async (source) => {
    await ensureInside(source, from)
    const at = `${source.at}/${oldName}`
    const stats = await FsPromises.lstat(at, { bigint: true })
    const isItself = to.length === from.length && isWithin(to, from)
    if (isItself && (stats.isDirectory() || conflict !== "rename")) throw itself(to)
    if (stats.isDirectory() && isWithin(to, from))
      throw failure("Unsupported", to, "a folder cannot be moved into itself")
    return within(base, to.slice(0, -1), async (target) => {
      await ensureInside(target, to)
      const there = Placing.look(`${target.at}/${newName}`)
      const isSame = there !== undefined && there.dev === stats.dev && there.ino === stats.ino
      let name = newName
      // Another spelling of its own name, where the system takes both for one; two hard links stay two.
      if (isSame && oldName.toLowerCase().normalize() === newName.toLowerCase().normalize() && oldName !== newName)
        await FsPromises.rename(at, `${target.at}/${newName}`)
      else if (isSame && conflict !== "rename") throw failure("Exists", to)
      else if (stats.isDirectory()) name = await moveFolder(at, target, newName, conflict, to)
      else {
        const placed = Placing.place(at, target.at, newName, conflict, to)
        name = placed.name
        if (placed.replaced !== undefined) onReplaced(placed.replaced)
      }
      await target.sync()
      await source.sync()
      return stat([...to.slice(0, -1), name], await FsPromises.lstat(`${target.at}/${name}`, { bigint: true }))
    })
  })
}
