/**
 * Makes `dist/` a package that can be published: the bundle, the bin, the assets, a package.json without dependencies but
 * the optional native ones, and the licences of what was bundled. `npm pack ./dist` takes it from there.
 *
 *     node tools/package.mjs [ROOT]
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const ASSETS = [
  "README.md",
  "AGENTS.md",
  "LICENSE",
  ".env.example",
  "bin",
  "config",
  "context",
  "docs",
  "systemd",
  "web"
]
/** Native, so not in the bundle: loaded at run time where npm could install it, done without elsewhere. */
const NATIVE = ["koffi"]
/** What a developer's run may have left beside the assets: secrets never go into a package. */
const PRIVATE = /\.(key|sec|link|db|log|pem)$|(^|\/)\.env$/

const root = Path.resolve(process.argv[2] ?? fileURLToPath(new URL("..", import.meta.url)))
const dist = Path.join(root, "dist")

/** The licence texts of every package with code in the bundle, which MIT and its kin ask to be passed on. */
const licences = (inputs) => {
  const homes = new Set()
  for (const input of inputs) {
    const match = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(input)
    if (match !== null) homes.add(match[0])
  }
  return [...homes].sort().map((home) => {
    const { name, version, license } = JSON.parse(Fs.readFileSync(Path.join(root, home, "package.json"), "utf8"))
    const file = Fs.readdirSync(Path.join(root, home)).find((each) => /^(licen[cs]e|copying)/i.test(each))
    const text = file === undefined ? "" : `\n${Fs.readFileSync(Path.join(root, home, file), "utf8").trim()}\n`
    return `${name} ${version} (${license})\n${text}`
  })
}

Fs.rmSync(dist, { recursive: true, force: true })
const built = spawnSync(process.execPath, [fileURLToPath(new URL("build.mjs", import.meta.url)), root], {
  stdio: "inherit"
})
if (built.status !== 0) process.exit(1)

for (const asset of ASSETS) {
  const from = Path.join(root, asset)
  if (!Fs.existsSync(from)) continue
  Fs.cpSync(from, Path.join(dist, asset), {
    recursive: true,
    filter: (path) => !PRIVATE.test(path.split(Path.sep).join("/"))
  })
}
Fs.chmodSync(Path.join(dist, "bin", "clawchat.mjs"), 0o755)

const { inputs } = JSON.parse(Fs.readFileSync(Path.join(dist, "meta.json"), "utf8"))
Fs.writeFileSync(
  Path.join(dist, "THIRD_PARTY_LICENCES.txt"),
  licences(Object.keys(inputs)).join(`\n${"-".repeat(80)}\n`)
)

const { name, version, description, license, optionalDependencies } = JSON.parse(
  Fs.readFileSync(Path.join(root, "package.json"), "utf8")
)
const manifest = {
  name,
  version,
  description,
  license,
  type: "module",
  bin: { clawchat: "bin/clawchat.mjs" },
  files: ["clawchat.cjs", "clawchat.cjs.LEGAL.txt", "THIRD_PARTY_LICENCES.txt", ...ASSETS],
  engines: { node: ">=24.7" },
  optionalDependencies: Object.fromEntries(
    Object.entries(optionalDependencies ?? {}).filter(([each]) => NATIVE.includes(each))
  )
}
Fs.writeFileSync(Path.join(dist, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`)
process.stdout.write(`dist/ is ready: npm pack ./dist makes ${name}-${version}.tgz\n`)
