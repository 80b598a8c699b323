import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as ImportLaws from "../../tools/ImportLaws.ts"

const breachesOf = (files: Readonly<Record<string, string>>): ReadonlyArray<string> => {
  const root = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-laws-"))
  try {
    for (const [file, content] of Object.entries(files)) {
      Fs.mkdirSync(Path.dirname(Path.join(root, file)), { recursive: true })
      Fs.writeFileSync(Path.join(root, file), content)
    }
    return ImportLaws.check(root).map(({ file, law, line }) => `${file}:${line}: ${law}`)
  } finally {
    Fs.rmSync(root, { recursive: true })
  }
}

const leaf = "export interface T { readonly a: number }\nexport const a = 1\n"
const floors: Readonly<Record<string, string>> = {
  main: "src/main.ts",
  cli: "src/programs/cli/Ls.ts",
  programs: "src/programs/Relay.ts",
  layers: "src/layers/UdpNode.ts",
  services: "src/services/Udp.ts",
  domain: "src/domain/Sec.ts",
  protocol: "src/domain/protocol/Frame.ts"
}
const mayImport: Readonly<Record<string, ReadonlyArray<string>>> = {
  main: ["cli", "programs", "services", "domain", "protocol"],
  cli: ["programs", "layers", "services", "domain", "protocol"],
  programs: ["services", "domain", "protocol"],
  layers: ["services", "domain", "protocol"],
  services: ["domain", "protocol"],
  domain: ["protocol"],
  protocol: []
}

describe("ImportLaws: floors", () => {
  for (const [from, file] of Object.entries(floors))
    for (const [to, target] of Object.entries(floors)) {
      if (from === to) continue
      const specifier = Path.posix.relative(Path.posix.dirname(file), target).replace(/^(?!\.)/, "./")
      const allowed = mayImport[from]?.includes(to) === true
      for (const [kind, code] of [
        ["value", `import { a } from "${specifier}"\nexport const b = a\n`],
        ["type", `import type { T } from "${specifier}"\nexport const b = (t: T) => t\n`],
        ["dynamic", `export const b = () => import("${specifier}")\n`],
        ["typeof", `export type B = typeof import("${specifier}")\n`]
      ] as const)
        it(`${from} ${allowed ? "may" : "may not"} import ${to} (${kind})`, () => {
          assert.deepStrictEqual(breachesOf({ [file]: code, [target]: leaf }), allowed ? [] : [`${file}:1: floor`])
        })
    }

  it("a neighbour on the same floor is allowed", () => {
    for (const file of Object.values(floors)) {
      if (file === "src/main.ts") continue
      const target = Path.posix.join(Path.posix.dirname(file), "Other.ts")
      assert.deepStrictEqual(breachesOf({ [file]: 'export type B = import("./Other.ts").T\n', [target]: leaf }), [])
    }
  })

  it("src imports neither tests nor tools, and every file has a floor", () => {
    const file = "src/domain/A.ts"
    const found = breachesOf({ [file]: 'import "../../test/B.ts"\n', "test/B.ts": leaf, "src/Stray.ts": leaf })
    assert.deepStrictEqual(found, ["src/Stray.ts:1: floor", `${file}:1: floor`])
  })
})

const bites: ReadonlyArray<readonly [name: string, file: string, code: string, breaches: ReadonlyArray<string>]> = [
  [
    "protocol: effect",
    "src/domain/protocol/A.ts",
    'import type * as E from "effect/Effect"\nexport type X = E.Yieldable',
    ["1: floor"]
  ],
  [
    "protocol: node",
    "src/domain/protocol/A.ts",
    'import type { KeyObject } from "node:crypto"\nexport type X = KeyObject',
    ["1: host"]
  ],
  ["domain: effect allowed", "src/domain/A.ts", 'import * as E from "effect/Effect"\nexport const x = E.void', []],
  ["domain: node", "src/domain/A.ts", '\nimport { join } from "node:path"\nexport const x = join', ["2: host"]],
  ["domain: node without prefix", "src/domain/A.ts", 'import { join } from "path"\nexport const x = join', ["1: host"]],
  ["services: node", "src/services/A.ts", 'export const x = () => import("node:fs")', ["1: host"]],
  [
    "services: host library",
    "src/services/A.ts",
    'import * as N from "@effect/platform-node/NodeSocket"\nexport const x = N.make',
    ["1: host"]
  ],
  [
    "programs: node",
    "src/programs/A.ts",
    'import type { Socket } from "node:net"\nexport type X = Socket',
    ["1: host"]
  ],
  ["cli: node allowed", "src/programs/cli/A.ts", 'import { join } from "node:path"\nexport const x = join', []],
  [
    "layers: node allowed, by its prefix",
    "src/layers/A.ts",
    'import { a } from "node:fs"\nimport { b } from "fs"\nexport const x = [a, b]',
    ["2: path"]
  ],
  ["barrel: export *", "src/domain/A.ts", 'export * from "./B.ts"', ["1: barrel"]],
  ["barrel: export * as", "src/domain/A.ts", 'export * as B from "./B.ts"', ["1: barrel"]],
  ["barrel: export from", "src/domain/A.ts", 'export { a } from "./B.ts"', ["1: barrel"]],
  ["barrel: export type from", "src/domain/A.ts", 'export type { T } from "./B.ts"', ["1: barrel"]],
  ["barrel: import, then export", "src/domain/A.ts", 'import { a } from "./B.ts"\nexport { a }', ["2: barrel"]],
  ["barrel: index.ts", "src/domain/index.ts", "export const x = 1", ["1: barrel"]],
  ["default export", "src/domain/A.ts", "export default 1", ["1: default-export"]],
  ["default export by name", "src/domain/A.ts", "const x = 1\nexport { x as default }", ["2: default-export"]],
  [
    "effect: root",
    "src/domain/A.ts",
    'import { Effect } from "effect"\nexport const x = Effect.void',
    ["1: effect-by-path"]
  ],
  [
    "effect: root, types",
    "src/domain/A.ts",
    'import type { Effect } from "effect"\nexport type X = Effect.Effect<1>',
    ["1: effect-by-path"]
  ],
  [
    "effect: area",
    "src/domain/A.ts",
    'import { Rpc } from "effect/rpc"\nexport const x = Rpc.make',
    ["1: effect-by-path"]
  ],
  [
    "effect: module of an area",
    "src/domain/A.ts",
    'import * as Rpc from "effect/rpc/Rpc"\nexport const x = Rpc.make',
    []
  ],
  [
    "effect: platform root",
    "src/layers/A.ts",
    'import { NodeRuntime } from "@effect/platform-node"\nexport const x = NodeRuntime',
    ["1: effect-by-path"]
  ],
  ["path: no extension", "src/domain/A.ts", 'import { a } from "./B"\nexport const x = a', ["1: path"]],
  ["path: .js", "src/domain/A.ts", 'import { a } from "./B.js"\nexport const x = a', ["1: path"]],
  ["path: missing file", "src/domain/A.ts", 'import type { a } from "./C.ts"\nexport type X = a', ["1: path"]],
  ["path: wrong case", "src/domain/A.ts", 'import { a } from "./b.ts"\nexport const x = a', ["1: path"]],
  ["path: alias", "src/domain/A.ts", 'import { a } from "#b"\nexport const x = a', ["1: path"]],
  ["path: not a literal", "src/programs/cli/A.ts", "export const x = (name: string) => import(name)", ["1: path"]],
  ["path: other script", "src/domain/A.mjs", "export const x = 1", ["1: path"]],
  ["lazy: openai", "src/layers/A.ts", 'import OpenAI from "openai"\nexport const x = OpenAI', ["1: lazy"]],
  [
    "lazy: anthropic",
    "src/layers/A.ts",
    'import { Stream } from "@anthropic-ai/sdk/streaming"\nexport const x = Stream',
    ["1: lazy"]
  ],
  [
    "lazy: dynamic and type imports",
    "src/layers/A.ts",
    'import type OpenAI from "openai"\nexport const x = (): Promise<OpenAI> => import("openai").then((m) => new m.OpenAI())',
    []
  ],
  ["dependency: undeclared", "src/layers/A.ts", 'import { x } from "left-pad"\nexport const y = x', ["1: dependency"]],
  ["syntax", "src/domain/A.ts", "export const = 1", ["1: syntax"]],
  ["clock: Date.now", "src/services/A.ts", "export const x = () => Date.now()", ["1: ambient"]],
  ["clock: Date.now, disguised", "src/services/A.ts", 'export const x = globalThis.Date["now"]', ["1: ambient"]],
  ["clock: destructured", "src/services/A.ts", "const { now } = Date\nexport { now }", ["1: ambient"]],
  ["clock: new Date()", "src/services/A.ts", "export const x = () => new Date()", ["1: ambient"]],
  ["clock: new Date(ms) is pure", "src/services/A.ts", "export const x = (ms: number) => new Date(ms)", []],
  ["randomness", "src/domain/A.ts", "export const x = Math.random", ["1: ambient"]],
  ["randomness: web crypto", "src/domain/A.ts", "export const x = () => crypto.randomUUID()", ["1: ambient"]],
  [
    "a service called crypto is no global",
    "src/programs/A.ts",
    "export const x = (crypto: { randomUUID: () => string }) => crypto.randomUUID()",
    []
  ],
  ["environment", "src/programs/cli/A.ts", "export const x = process.env.HOME", ["1: ambient"]],
  [
    "environment, imported process",
    "src/programs/cli/A.ts",
    'import process from "node:process"\nexport const x = process.env.HOME',
    ["2: ambient"]
  ],
  [
    "environment, imported env",
    "src/programs/cli/A.ts",
    'import { env } from "node:process"\nexport const x = env.HOME',
    ["1: ambient"]
  ],
  ["console", "src/programs/A.ts", 'console.log("x")', ["1: ambient"]],
  [
    "timers",
    "src/programs/A.ts",
    "setTimeout(() => {}, 1)\nglobalThis.setInterval(() => {}, 1)",
    ["1: ambient", "2: ambient"]
  ],
  [
    "timers, imported",
    "src/programs/cli/A.ts",
    'import { setTimeout } from "node:timers/promises"\nexport const x = setTimeout',
    ["1: ambient", "2: ambient"]
  ],
  [
    "a machine's own setTimeout is no timer",
    "src/domain/protocol/A.ts",
    "export const x = (t: { setTimeout: () => void }) => t.setTimeout()",
    []
  ],
  [
    "layers may use the host",
    "src/layers/A.ts",
    "export const x = () => [Date.now(), Math.random(), process.env.HOME]",
    []
  ],
  ["main may use the host", "src/main.ts", "console.log(Date.now(), process.env.HOME)", []],
  ["any: annotation", "src/layers/A.ts", "export const x = (a: any) => a", ["1: cast"]],
  ["any: cast", "src/domain/A.ts", "export const x = 1 as any", ["1: cast"]],
  [
    "as unknown as",
    "src/layers/A.ts",
    "export const x = 1 as unknown as string\nexport const y = (1 as unknown) as string",
    ["1: cast", "2: cast"]
  ],
  [
    "as const and narrowing are fine",
    "src/domain/A.ts",
    "export const x = [1][0] as number\nexport const y = [1] as const",
    []
  ],
  [
    "the words in strings and comments are fine",
    "src/domain/A.ts",
    'export const x = "as any, console.log, Date.now()" // : any',
    []
  ],
  [
    "silenced",
    "src/layers/A.ts",
    "// @ts-expect-error\nexport const x: string = 1\n/* @ts-ignore */",
    ["1: silenced", "3: silenced"]
  ]
]

describe("ImportLaws: within a file", () => {
  const manifest = JSON.stringify({
    dependencies: { effect: "1", openai: "1", "@anthropic-ai/sdk": "1", "@effect/platform-node": "1" }
  })
  for (const [name, file, code, breaches] of bites)
    it(name, () => {
      const other = file === "src/main.ts" ? "src/domain/B.ts" : Path.posix.join(Path.posix.dirname(file), "B.ts")
      assert.deepStrictEqual(
        breachesOf({ "package.json": manifest, [other]: leaf, [file]: `${code}\n` }),
        breaches.map((each) => `${file}:${each}`)
      )
    })

  it("JSON is read by the floors that know a host", () => {
    const code = 'import manifest from "../package.json" with { type: "json" }\nexport const x = manifest\n'
    assert.deepStrictEqual(breachesOf({ "package.json": "{}", "src/main.ts": code }), [])
    const found = breachesOf({ "package.json": "{}", "src/domain/A.ts": code.replace("../", "../../") })
    assert.deepStrictEqual(found, ["src/domain/A.ts:1: path", "src/domain/A.ts:1: floor"])
  })
})

describe("ImportLaws: circles", () => {
  const a = "src/domain/A.ts"
  const b = "src/domain/B.ts"
  const c = "src/domain/C.ts"

  it("of values", () => {
    const found = breachesOf({
      [a]: 'import { b } from "./B.ts"\nexport const a = () => b\n',
      [b]: 'import { a } from "./A.ts"\nexport const b = () => a\n'
    })
    assert.deepStrictEqual(found, [`${a}:1: circle`])
  })

  it("of types only, over three files, reported once", () => {
    const found = breachesOf({
      [a]: '\nimport type { B } from "./B.ts"\nexport interface A { readonly b: B }\n',
      [b]: 'export interface B { readonly c: import("./C.ts").C }\n',
      [c]: 'import { type A } from "./A.ts"\nexport interface C { readonly a: A }\n'
    })
    assert.deepStrictEqual(found, [`${a}:2: circle`])
  })

  it("with oneself", () => {
    assert.deepStrictEqual(breachesOf({ [a]: 'export type A = typeof import("./A.ts")\n' }), [`${a}:1: circle`])
  })

  it("a diamond is none", () => {
    const found = breachesOf({
      [a]: 'import type { T } from "./B.ts"\nimport type { T as U } from "./C.ts"\nexport type A = T | U\n',
      [b]: 'import { a } from "./D.ts"\nexport type T = typeof a\n',
      [c]: 'import { a } from "./D.ts"\nexport type T = typeof a\n',
      "src/domain/D.ts": leaf
    })
    assert.deepStrictEqual(found, [])
  })
})

describe("ImportLaws: the command", () => {
  it("prints one line per breach and exits with 1, or nothing and 0", () => {
    const tool = Path.resolve(import.meta.dirname, "../../tools/ImportLaws.ts")
    const root = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-laws-"))
    try {
      Fs.mkdirSync(Path.join(root, "src/domain"), { recursive: true })
      assert.strictEqual(spawnSync(process.execPath, [tool, root]).status, 0)
      Fs.writeFileSync(Path.join(root, "src/domain/A.ts"), "export default 1\n")
      const run = spawnSync(process.execPath, [tool, root], { encoding: "utf8" })
      assert.deepStrictEqual(run.stdout, "src/domain/A.ts:1: default-export: export by name\n")
      assert.strictEqual(run.status, 1)
    } finally {
      Fs.rmSync(root, { recursive: true })
    }
  })
})

describe("ImportLaws: this tree", () => {
  it("keeps them", () => {
    const root = Path.resolve(import.meta.dirname, "../..")
    assert.deepStrictEqual(ImportLaws.check(root).map(ImportLaws.format), [])
  })
})
