/** What stands in another process's memory: Linux, as root or as its owner where ptrace is allowed. */
import * as Fs from "node:fs"

const CHUNK = 4 * 1024 * 1024

/** Why a process's memory cannot be read here, or undefined. */
export const unreadable: string | undefined =
  process.platform !== "linux" ? "no /proc here" : process.getuid?.() !== 0 ? "not root" : undefined

/** How often each text stands in the writable memory of a process, as UTF-8 or as UTF-16. */
export const occurrences = (pid: number, texts: ReadonlyArray<string>): ReadonlyArray<number> => {
  const needles = texts.map((text) => [Buffer.from(text, "utf8"), Buffer.from(text, "utf16le")])
  const overlap = Math.max(...needles.flat().map(({ length }) => length)) - 1
  const counts = texts.map(() => 0)
  const memory = Fs.openSync(`/proc/${pid}/mem`, "r")
  const buffer = Buffer.allocUnsafeSlow(CHUNK + overlap)
  try {
    for (const line of Fs.readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")) {
      const region = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line)
      if (region === null) continue
      const end = Number.parseInt(region[2] as string, 16)
      for (let at = Number.parseInt(region[1] as string, 16); at < end; at += CHUNK) {
        let length = 0
        try {
          length = Fs.readSync(memory, buffer, 0, Math.min(CHUNK + overlap, end - at), at)
        } catch {
          // A page that the kernel does not give out.
          continue
        }
        const read = buffer.subarray(0, length)
        for (const [index, forms] of needles.entries()) {
          for (const form of forms) {
            for (let found = read.indexOf(form); found >= 0; found = read.indexOf(form, found + 1)) {
              if (found < CHUNK) counts[index] = (counts[index] ?? 0) + 1
            }
          }
        }
      }
    }
  } finally {
    buffer.fill(0)
    Fs.closeSync(memory)
  }
  return counts
}
