/** Files below the server's base path, as a device asks for them. Bulk bytes go on streams of their own. */

import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import * as RemoteFile from "./RemoteFile.ts"
import * as RemotePath from "./RemotePath.ts"

/** Characters: bounded here, judged by RemotePath. */
const Path = Schema.String.check(Schema.isMaxLength(RemotePath.MAX_PATH_LENGTH))

/** One page of a folder. */
export const List = Rpc.make("List", {
  payload: {
    path: Path,
    cursor: Schema.optionalKey(Path),
    limit: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: RemoteFile.MAX_PAGE_LENGTH })))
  },
  success: RemoteFile.Page,
  error: RemoteFile.FilesError
})

/** One file, folder or link. */
export const Stat = Rpc.make("Stat", {
  payload: { path: Path },
  success: RemoteFile.Stat,
  error: RemoteFile.FilesError
})

/** Tags are `Files.List` and `Files.Stat`: unique over all groups. */
export class FilesRpc extends RpcGroup.make(List, Stat).prefix("Files.") {}
