/** The program that tests start as a process. */
import * as Path from "node:path"

export const root = Path.resolve(import.meta.dirname, "..")

/** Where `test/Built.ts` has put it together for this run; unset where nobody did, as in a soak. */
export const BUILT = "PROGRAM_UNDER_TEST"

const built = process.env[BUILT]

/** As it is shipped, built once for all files of a run; from its sources where it was not built. */
export const bin = Path.join(built ?? root, "bin/clawchat.mjs")

/** Its code, compiled, is the same for every home and every test: added to the environment of what is started. */
export const cache: Readonly<Record<string, string>> =
  built === undefined ? {} : { XDG_CACHE_HOME: Path.join(built, "cache") }
