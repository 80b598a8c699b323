/** Wall time until `clawchat --help` has ended, beside a Node that does nothing. */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { alternate, type Bench, type Figure } from "./Harness.ts"

const ROUNDS = 15
const ROOT = path.resolve(import.meta.dirname, "..")

/** Milliseconds from start to end of a process that must succeed. */
const wallMs = (args: ReadonlyArray<string>): number => {
  const start = performance.now()
  const { status, stderr } = spawnSync(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] })
  if (status !== 0) throw new Error(`node ${args.join(" ")} ended with ${status}: ${String(stderr).slice(0, 500)}`)
  return performance.now() - start
}

interface Way {
  readonly what: string
  readonly file: string
  /** Must exist for it to work. */
  readonly needs: string
}

const WAYS: ReadonlyArray<Way> = [
  { what: "clawchat --help by bin/, from sources", file: "bin/clawchat.mjs", needs: "src/main.ts" },
  { what: "clawchat --help, bundled", file: "dist/bin/clawchat.mjs", needs: "dist/bin/clawchat.mjs" }
]

export const bench: Bench = {
  name: "startup",
  measure: async () => {
    const figures: Array<Figure> = []
    const notes: Array<string> = []
    for (const { what, file, needs } of WAYS) {
      if (!fs.existsSync(path.join(ROOT, needs))) {
        notes.push(`${what}: skipped, ${needs} is not here`)
        continue
      }
      const args = [path.join(ROOT, file), "--help"]
      // Once before: the code cache is part of every start but the first.
      wallMs(args)
      const taken = await alternate(ROUNDS, { ours: () => wallMs(args), node: () => wallMs(["-e", "0"]) })
      figures.push({ what, unit: "ms", ours: taken.ours, beside: { "node -e 0": taken.node } })
    }
    return { figures, notes }
  }
}
