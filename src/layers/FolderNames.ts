/**
 * The names in a folder, in order, for listings that go page by page. Node takes six microseconds for each name that it
 * reads, so a listing of 100,000 names that read them all for each page of a thousand took half a minute. What a later page
 * read serves those that follow, while the folder stays as it was; the collector may take it away at any time.
 */
import * as FsPromises from "node:fs/promises"
import { MAX_PAGE_LENGTH } from "../domain/RemoteFile.ts"
import type * as RemotePath from "../domain/RemotePath.ts"
import { type Folder, type Names, readNames, sorted } from "./HeldFolders.ts"

/** Another one once a name has come, gone or changed; coarser than two changes within a tick of the kernel's clock. */
const stateOf = async ({ at }: Folder): Promise<string> => {
  const { ctimeNs, dev, ino, mtimeNs } = await FsPromises.stat(at, { bigint: true })
  return [dev, ino, mtimeNs, ctimeNs].join(" ")
}

const read = async (folder: Folder, path: RemotePath.RemotePath): Promise<Names> => {
  const found = await readNames(folder, path)
  return { ...found, names: sorted(found.names) }
}

/** One for each tree. */
export class FolderNames {
  #last: { readonly state: string; readonly names: WeakRef<Names> } | undefined

  /** `goesOn`: a page of it was read before. Fails with `TooMany` beyond `MAX_FOLDER_LENGTH`. */
  async of(folder: Folder, path: RemotePath.RemotePath, goesOn: boolean): Promise<Names> {
    if (!goesOn) return read(folder, path)
    const state = await stateOf(folder)
    const known = this.#last?.state === state ? this.#last.names.deref() : undefined
    if (known !== undefined) return known
    const found = await read(folder, path)
    if (found.names.length > MAX_PAGE_LENGTH) this.#last = { state, names: new WeakRef(found) }
    return found
  }
}
