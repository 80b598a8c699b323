/** What a file system answers, as FilesError. */
import * as Effect from "effect/Effect"
import { FilesError } from "../domain/RemoteFile.ts"
import type * as RemotePath from "../domain/RemotePath.ts"
import { failure } from "../services/FileTree.ts"

export const codeOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string" ? cause.code : ""

export const fromCause = (path: RemotePath.RemotePath, cause: unknown): FilesError => {
  if (cause instanceof FilesError) return cause
  switch (codeOf(cause)) {
    case "ENOENT":
    case "ENAMETOOLONG":
    case "EINVAL":
      return failure("NotFound", path)
    case "ENOTDIR":
    case "ELOOP":
    case "EMLINK":
      return failure("NotAFolder", path)
    case "EISDIR":
    case "ENXIO":
      return failure("NotAFile", path)
    case "EACCES":
    case "EPERM":
      return failure("Denied", path)
    case "EROFS":
      return failure("ReadOnly", path, "the file system there is read-only")
    case "EEXIST":
    case "ENOTEMPTY":
      return failure("Exists", path)
    case "ENOSPC":
    case "EFBIG":
      return failure("NoSpace", path)
    case "EDQUOT":
      return failure("Quota", path)
    case "EMFILE":
    case "ENFILE":
      return failure("Busy", path)
    case "EBUSY":
      return failure("Busy", path, "it is in use")
    case "ENOTSUP":
    case "EOPNOTSUPP":
      return failure("Unsupported", path)
    case "EXDEV":
      return failure("Unsupported", path, "that is on another file system: copy it, then remove it here")
    default:
      return failure("Io", path)
  }
}

/**
 * Runs host calls that own and close whatever they open: interrupted, they go on to their end by themselves, which is
 * sooner for those that look at the signal.
 */
export const attempt = <A>(
  path: RemotePath.RemotePath,
  run: (signal: AbortSignal) => Promise<A>
): Effect.Effect<A, FilesError> => Effect.tryPromise({ try: run, catch: (cause) => fromCause(path, cause) })

/** The outcome of a call, or undefined where what it asks for is not there. */
export const orAbsent = <A>(promise: Promise<A>): Promise<A | undefined> =>
  promise.catch((cause: unknown) => {
    if (codeOf(cause) === "ENOENT") return undefined
    throw cause
  })

export const ignore = (): void => {}
