/** Whole small files of a tree, each asked for on its own and read or written with the others that are asked for meanwhile. */
import * as Effect from "effect/Effect"
import type { FilesError, Stat } from "../domain/RemoteFile.ts"
import { PIECE_LENGTH } from "../domain/TransferFrame.ts"
import type { FileTree, SmallFile, SmallRead } from "../services/FileTree.ts"
import * as Batches from "./Batches.ts"

export interface SmallFiles {
  /** As `FileTree.readSmall` does: a file of more than one piece comes without bytes. */
  readonly read: Batches.Ask<string, SmallRead, FilesError>
  /** As `FileTree.writeSmall` does. */
  readonly write: Batches.Ask<SmallFile, Stat, FilesError>
}

/** Files that are read or written together; as many of the largest kind are 4 MiB, and 8 MiB. */
const READ = 64
const WRITTEN = 128

/** Runs in the scope. Whoever asks bounds how many wait. */
export const make = Effect.fnUntraced(function* (tree: Pick<FileTree, "readSmall" | "writeSmall">) {
  const made: SmallFiles = {
    read: yield* Batches.make(READ, (paths: ReadonlyArray<string>) => tree.readSmall(paths, PIECE_LENGTH)),
    write: yield* Batches.make(WRITTEN, tree.writeSmall)
  }
  return made
})
