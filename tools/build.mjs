/**
 * Bundles `src/main.ts` and all it needs into `dist/clawchat.mjs`: one file, one process start.
 *
 *     node tools/build.mjs [ROOT]
 *
 * What the sources load with `import()` is in the same file but does not run until asked for. The same holds for Node's
 * own modules: an `import` of one would be hoisted to the top of the bundle and loaded at every start (`node:sqlite`
 * even prints a warning), so each becomes a `require` where it is first used.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { builtinModules } from "node:module"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

const lateBuiltins = {
  name: "late-builtins",
  setup(build) {
    build.onResolve({ filter: /^[a-z_:/]+$/ }, (args) => {
      const name = args.path.replace(/^node:/, "")
      if (!args.path.startsWith("node:") && !builtinModules.includes(name)) return undefined
      if (args.kind === "require-call") return { path: `node:${name}`, external: true }
      return { path: `node:${name}`, namespace: "builtin", sideEffects: false }
    })
    build.onLoad({ filter: /.*/, namespace: "builtin" }, (args) => ({
      contents: `module.exports = require(${JSON.stringify(args.path)})`,
      loader: "js"
    }))
  }
}

const root = Path.resolve(process.argv[2] ?? fileURLToPath(new URL("..", import.meta.url)))
const dist = Path.join(root, "dist")
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: ["src/main.ts"],
  outfile: "dist/clawchat.mjs",
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node24",
  // Native, and optional: the sources ask for it at run time.
  external: ["koffi"],
  minifySyntax: true,
  minifyWhitespace: true,
  keepNames: false,
  sourcemap: "external",
  legalComments: "external",
  metafile: true,
  logLevel: "warning",
  plugins: [lateBuiltins],
  banner: {
    js: 'import{createRequire as __createRequire}from"node:module";const require=__createRequire(import.meta.url);'
  }
})
mkdirSync(dist, { recursive: true })
writeFileSync(Path.join(dist, "meta.json"), JSON.stringify(metafile))
const bytes = metafile.outputs["dist/clawchat.mjs"]?.bytes ?? 0
process.stdout.write(
  `dist/clawchat.mjs: ${Math.round(bytes / 1024)} KiB from ${Object.keys(metafile.inputs).length} files\n`
)
