/** The server's tree of files: the folder that clients see. */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { FileTree } from "./FileTree.ts"
import * as MemoryFileTree from "./MemoryFileTree.ts"
import type { MemoryNode } from "./MemoryNodes.ts"

export class RemoteFiles extends Context.Service<RemoteFiles, FileTree>()("clawchat/services/RemoteFiles") {}

/** A tree in memory that begins with `base`. */
export const layerMemory = (base: Readonly<Record<string, MemoryNode>>): Layer.Layer<RemoteFiles> =>
  Layer.sync(RemoteFiles, () => MemoryFileTree.make(base))
