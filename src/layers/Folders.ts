/**
 * Making folders. `mkdir` of Node with `recursive` is not used in this program: where making a folder keeps failing with
 * ENOENT although its parent stands, as below /proc, it tries for ever.
 */
import { chmodSync, existsSync, mkdirSync } from "node:fs"
import { dirname } from "node:path"

/**
 * Makes a folder and its missing parents 0700, whatever the umask, and leaves what is there as it is. Throws what the host
 * throws. For start-up: it blocks.
 */
export const make = (folder: string): void => {
  if (existsSync(folder)) return
  make(dirname(folder))
  try {
    mkdirSync(folder, 0o700)
  } catch (cause) {
    // Made by somebody else meanwhile; whether it is a folder shows when it is used.
    if (cause instanceof Error && "code" in cause && cause.code === "EEXIST") return
    throw cause
  }
  chmodSync(folder, 0o700)
}
