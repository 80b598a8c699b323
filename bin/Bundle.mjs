/**
 * Runs the bundle with the code that an earlier run compiled.
 *
 * V8 compiles a function when it is first called: two thirds of a short command's time. Node's compile cache is taken
 * before a module runs, so it spares next to none of that. This one is taken at the end of a run that went well, and holds
 * what that run called. What it keeps is code and the literals in it, never a value of the program.
 *
 * A kept file is `bundle's digest, length of the code, code, digest again`. V8 itself refuses code of another version of
 * V8 or made under other flags, but tells sources apart by their length only and trusts the bytes, hence the frame.
 * Whoever can write the file can run code as the user: it belongs into a folder that only the user writes.
 */
import { Buffer } from "node:buffer"
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname } from "node:path"
import { constants, Script } from "node:vm"

/** The bundle begins with the SHA-256 of the rest, as a comment. */
const DIGEST = /^\/\*([0-9a-f]{64})\*\//
const DIGEST_BYTES = 64
const LENGTH_BYTES = 8
/** Seconds: V8 lets go of code that has not been called for long, so a long run knows less than a short one. */
const FRESH_SECONDS = 600

const HEAD = Buffer.from("(function(exports,require,module,__filename,__dirname){")
const TAIL = Buffer.from("\n})")

/** The code kept for this bundle; `undefined` when there is none, or of another one, or cut short. */
const load = (file, digest) => {
  try {
    const kept = readFileSync(file)
    const end = kept.length - DIGEST_BYTES
    const start = DIGEST_BYTES + LENGTH_BYTES
    const whole =
      end >= start &&
      kept.latin1Slice(0, DIGEST_BYTES) === digest &&
      Number(kept.latin1Slice(DIGEST_BYTES, start)) === end - start &&
      kept.latin1Slice(end) === digest
    return whole ? kept.subarray(start, end) : undefined
  } catch (_) {
    return undefined
  }
}

/** Whole or not at all, also when two processes keep at once or the power fails. */
const keep = (file, digest, code) => {
  const made = `${file}.${process.pid}`
  try {
    const fd = openSync(made, "w", 0o600)
    try {
      for (const part of [digest, String(code.length).padStart(LENGTH_BYTES), code, digest]) writeSync(fd, part)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(made, file)
  } catch (_) {
    // A full disk: the next start is as slow as this one was.
    rmSync(made, { force: true })
  }
}

/** Runs the CommonJS bundle `file`. `kept` is where its code is kept, or `undefined`. */
export const run = (file, kept) => {
  const bytes = readFileSync(file)
  const digest = DIGEST.exec(bytes.latin1Slice(0, DIGEST_BYTES + 4))?.[1]
  // The build sees to it that a bundle with a digest is ASCII; a string of bytes takes half the memory and time.
  const source = Buffer.concat([HEAD, bytes, TAIL])
  const known = kept !== undefined && digest !== undefined ? load(kept, digest) : undefined
  const script = new Script(digest === undefined ? source.utf8Slice() : source.latin1Slice(), {
    filename: file,
    cachedData: known,
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER
  })
  if (kept !== undefined && digest !== undefined && (known === undefined || script.cachedDataRejected)) {
    process.on("exit", (code) => {
      if (code === 0 && process.uptime() < FRESH_SECONDS) keep(kept, digest, script.createCachedData())
    })
  }
  const module = { exports: {} }
  script.runInThisContext().call(module.exports, module.exports, createRequire(file), module, file, dirname(file))
}
