/**
 * Bundles `src/main.ts` and all it needs into `dist/clawchat.cjs`: one file, one process start.
 *
 *     node tools/build.mjs [ROOT]
 */
import { writeFileSync } from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { bundle } from "./Bundler.ts"

const root = Path.resolve(process.argv[2] ?? fileURLToPath(new URL("..", import.meta.url)))
const outfile = "dist/clawchat.cjs"
const metafile = await bundle(root, "src/main.ts", outfile)
writeFileSync(Path.join(root, "dist/meta.json"), JSON.stringify(metafile))
const bytes = metafile.outputs[outfile]?.bytes ?? 0
process.stdout.write(`${outfile}: ${Math.round(bytes / 1024)} KiB from ${Object.keys(metafile.inputs).length} files\n`)
