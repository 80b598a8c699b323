/** What a tree holds and may hold: counted once by going through it, then kept up as this process changes it. */
import type * as RemotePath from "../domain/RemotePath.ts"
import { failure } from "../services/FileTree.ts"

export interface Quota {
  /** All files together; 0 is no limit. */
  readonly bytes: number
  /** Files; 0 is no limit. */
  readonly files: number
}

/**
 * Counts bytes and files. Bytes that open writers have announced are reserved, so that two of them cannot both take the
 * last space. What other programs write is seen at the next count. The trash has a limit of its own and is not counted.
 */
export class Usage {
  readonly #quota: Quota
  #bytes = 0
  #files = 0
  #reserved = 0
  #writers = 0

  constructor(quota: Quota) {
    this.#quota = quota
  }

  /** Whether there is anything to count for. */
  get isLimited(): boolean {
    return this.#quota.bytes > 0 || this.#quota.files > 0
  }

  /** Bytes that still fit. */
  get left(): number {
    return this.#quota.bytes > 0
      ? Math.max(0, this.#quota.bytes - this.#bytes - this.#reserved)
      : Number.POSITIVE_INFINITY
  }

  /** Takes the outcome of a count. */
  set(bytes: number, files: number): void {
    this.#bytes = bytes
    this.#files = files
  }

  /** A new writer: a file more, unless it replaces one. Fails with `Quota`. */
  begin(path: RemotePath.RemotePath): void {
    if (this.#quota.files > 0 && this.#files + this.#writers >= this.#quota.files)
      throw failure(
        "Quota",
        path,
        `there are ${this.#files} files, and the quota is ${this.#quota.files} (files.quota_files)`
      )
    this.#writers++
  }

  end(): void {
    this.#writers--
  }

  /** Fails with `Quota` where so many more bytes do not fit. */
  reserve(bytes: number, path: RemotePath.RemotePath): void {
    if (bytes > this.left)
      throw failure(
        "Quota",
        path,
        `${bytes} bytes more do not fit in the quota of ${this.#quota.bytes} (files.quota_bytes)`
      )
    this.#reserved += bytes
  }

  release(bytes: number): void {
    this.#reserved -= bytes
  }

  add(bytes: number, files: number): void {
    this.#bytes = Math.max(0, this.#bytes + bytes)
    this.#files = Math.max(0, this.#files + files)
  }
}
