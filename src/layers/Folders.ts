/**
 * Making folders. `mkdir` of Node with `recursive` is not used in this program: where making a folder keeps failing with
 * ENOENT although its parent stands, as below /proc, it tries for ever.
 */
import { chmodSync, existsSync, mkdirSync } from "node:fs"
import { dirname } from "node:path"

/**
 * Makes a folder and its missing parents 0700, whatever the umask, and leaves what is there as it is; with `isPrivate` false
 * as the umask says. Throws what the host throws. For start-up: it blocks.
 */
export const make = (folder: string, isPrivate = true): void => {
  if (existsSync(folder)) return
  make(dirname(folder), isPrivate)
  try {
    mkdirSync(folder, isPrivate ? 0o700 : 0o777)
  } catch (cause) {
    // Made by somebody else meanwhile; whether it is a folder shows when it is used.
    if (cause instanceof Error && "code" in cause && cause.code === "EEXIST") return
    throw cause
  }
  if (isPrivate) chmodSync(folder, 0o700)
}
