/**
 * Bundles a module and all it needs into one CommonJS file, as the program is shipped.
 *
 * CommonJS, for Node takes compiled code back only for scripts; the file begins with a digest of the rest, by which
 * bin/Bundle.mjs knows whose code it has kept, and is ASCII, which lets V8 read it as bytes.
 *
 * What the sources load with `import()` is in the same file but does not run until asked for. The same holds for Node's
 * own modules, which take a third of the time until `--help` is out: each is loaded when one of its members is first used.
 */
import { hash } from "node:crypto"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { builtinModules, createRequire } from "node:module"
import { dirname } from "node:path"
import { build, type Metafile, type Plugin } from "esbuild"

const here = createRequire(import.meta.url)

/** Stands for one of Node's modules. What is more than a bag of members (`process`, `events`) is there at every start. */
const standIn = (name: string): string => {
  const required = `require(${JSON.stringify(name)})`
  const builtin: unknown = here(name)
  if (typeof builtin !== "object" || Object.getPrototypeOf(builtin) !== Object.prototype) {
    return `module.exports = ${required}`
  }
  const members = Object.getOwnPropertyNames(builtin).map((member) => {
    const quoted = JSON.stringify(member)
    return `get ${quoted}() { return (found ??= ${required})[${quoted}] }`
  })
  return `let found\nmodule.exports = { ${members.join(", ")} }`
}

const lateBuiltins: Plugin = {
  name: "late-builtins",
  setup: ({ onLoad, onResolve }) => {
    onResolve({ filter: /^[a-z_:/]+$/ }, (args) => {
      const name = args.path.replace(/^node:/, "")
      if (!args.path.startsWith("node:") && !builtinModules.includes(name)) return undefined
      if (args.kind === "require-call") return { path: `node:${name}`, external: true }
      return { path: `node:${name}`, namespace: "builtin", sideEffects: false }
    })
    onLoad({ filter: /.*/, namespace: "builtin" }, (args) => ({
      contents: standIn(args.path),
      loader: "js"
    }))
  }
}

/** Reads its own package.json while it loads, which is not beside the bundle. */
const SSDP = /@achingbrain\/ssdp\/dist\/src\/ssdp\.js$/
const MANIFEST = "req('../../package.json')"

const withoutManifest: Plugin = {
  name: "without-manifest",
  setup: ({ onLoad }) => {
    onLoad({ filter: SSDP }, ({ path }) => {
      const source = readFileSync(path, "utf8")
      if (!source.includes(MANIFEST)) throw new Error(`${path} does not read ${MANIFEST} any more`)
      return { contents: source.replace(MANIFEST, '{ name: "ssdp", version: "0" }'), loader: "js" }
    })
  }
}

/** Paths are below `root`; what was bundled is answered. Source map and legal comments are put beside the file. */
export const bundle = async (root: string, entry: string, outfile: string): Promise<Metafile> => {
  const { metafile, outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: "node",
    format: "cjs",
    target: "node24",
    charset: "ascii",
    // Native, and optional: the sources ask for it at run time.
    external: ["koffi"],
    minifySyntax: true,
    minifyWhitespace: true,
    keepNames: false,
    sourcemap: "external",
    legalComments: "external",
    metafile: true,
    write: false,
    logLevel: "warning",
    plugins: [lateBuiltins, withoutManifest],
    define: { "import.meta.url": "__moduleUrl", "import.meta.dirname": "__dirname" },
    banner: { js: '"use strict";const __moduleUrl=require("node:url").pathToFileURL(__filename).href;' }
  })
  for (const { contents, path } of outputFiles) {
    mkdirSync(dirname(path), { recursive: true })
    if (!path.endsWith(".cjs")) {
      writeFileSync(path, contents)
      continue
    }
    if (contents.some((byte) => byte > 0x7f)) throw new Error(`${path} would not be ASCII`)
    writeFileSync(path, Buffer.concat([Buffer.from(`/*${hash("sha256", contents)}*/`), contents]))
  }
  return metafile
}
