/** Everything `npm run check` proves: types, lint and format, the laws of the house. Runs all of it, then says what failed. */
import { spawnSync } from "node:child_process"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const modules = Path.join(root, "node_modules")
const checks = [
  ["types", [Path.join(modules, "typescript/bin/tsc"), "-p", root]],
  ["lint and format", [Path.join(modules, "@biomejs/biome/bin/biome"), "check", root]],
  ["laws", [Path.join(root, "tools/ImportLaws.ts"), root]]
]

const failed = checks.filter(([name, args]) => {
  process.stdout.write(`== ${name}\n`)
  return spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" }).status !== 0
})
process.stdout.write(
  failed.length === 0 ? "all checks passed\n" : `failed: ${failed.map(([name]) => name).join(", ")}\n`
)
if (failed.length > 0) process.exitCode = 1
