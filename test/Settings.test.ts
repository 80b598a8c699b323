import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, beforeEach, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as EnvFile from "../src/domain/EnvFile.ts"
import * as GivenSettings from "../src/domain/GivenSettings.ts"
import * as HomePaths from "../src/domain/HomePaths.ts"
import * as Table from "../src/domain/Settings.ts"
import * as SettingsNode from "../src/layers/SettingsNode.ts"
import { type LoadOptions, Settings, type SettingsError } from "../src/services/Settings.ts"

const repository = Path.resolve(import.meta.dirname, "..")
const top = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-settings-"))
afterAll(() => Fs.rmSync(top, { recursive: true }))

let home = ""
let here = ""
let count = 0
beforeEach(() => {
  home = Path.join(top, `${++count}`, "home")
  here = Path.join(top, `${count}`, "here")
  Fs.mkdirSync(Path.join(home, "config"), { recursive: true })
  Fs.mkdirSync(here)
})

const put = (path: string, text: string | Uint8Array) => Fs.writeFileSync(path, text, { mode: 0o600 })
const yaml = (text: string) => put(Path.join(home, "config", "server.yaml"), text)

type Environment = Record<string, string>
const load = (options: Partial<LoadOptions> = {}, environment: Environment = { CLAWCHAT_HOME: home }) =>
  Effect.flatMap(Settings, (settings) => settings.load({ role: "server", ...options })).pipe(
    Effect.provide(
      SettingsNode.layerFrom({ platform: "linux", userHome: "/home/user", environment, currentFolder: here })
    )
  )
const problemsOf = (options?: Partial<LoadOptions>, environment?: Environment) =>
  load(options, environment).pipe(
    Effect.flip,
    Effect.map((error: SettingsError) =>
      error.problems.map((problem) => problem.replaceAll(home, "HOME").replaceAll(here, "HERE"))
    )
  )

describe("precedence", () => {
  it.effect("each source beats the next", () =>
    Effect.gen(function* () {
      yaml("server: { name: from yaml, port: 1001 }\nllm: { model: yaml-model }\nsecurity: { kdf: argon2id }\n")
      put(Path.join(here, ".env"), "CLAWCHAT_SERVER_NAME=here\nCLAWCHAT_SERVER_PORT=1002\n")
      put(Path.join(home, ".env"), "CLAWCHAT_SERVER_NAME=home\nCLAWCHAT_SERVER_PORT=1003\n")
      put(Path.join(home, "config", ".env"), "CLAWCHAT_SERVER_NAME=config\nCLAWCHAT_SERVER_PORT=1004\n")
      const environment = { CLAWCHAT_HOME: home, CLAWCHAT_SERVER_PORT: "1005" }
      const names: Array<string> = []
      const ports: Array<number | undefined> = []
      const note = Effect.fnUntraced(function* (given: Environment, flags: Table.Flags) {
        const { origins, settings } = yield* load({ flags }, given)
        names.push(settings.server.name)
        ports.push(settings.server.port)
        assert.strictEqual(settings.security.kdf, "argon2id")
        assert.strictEqual(settings.llm.model, "yaml-model")
        return origins
      })
      const origins = yield* note(environment, { port: 1006, name: "flag" })
      assert.strictEqual(origins.get("server.port"), "--port")
      yield* note({ ...environment, CLAWCHAT_SERVER_NAME: "env" }, {})
      yield* note({ CLAWCHAT_HOME: home }, {})
      Fs.rmSync(Path.join(home, "config", ".env"))
      yield* note({ CLAWCHAT_HOME: home }, {})
      Fs.rmSync(Path.join(home, ".env"))
      yield* note({ CLAWCHAT_HOME: home }, {})
      Fs.rmSync(Path.join(here, ".env"))
      yield* note({ CLAWCHAT_HOME: home }, {})
      yaml("security: { kdf: argon2id }\nllm: { model: yaml-model }\n")
      yield* note({ CLAWCHAT_HOME: home }, {})
      assert.deepStrictEqual(names, ["flag", "env", "config", "home", "here", "from yaml", "clawchat"])
      assert.deepStrictEqual(ports, [1006, 1005, 1004, 1003, 1002, 1001, undefined])
    })
  )

  it.effect("nothing at all gives the defaults and the standard home", () =>
    Effect.gen(function* () {
      const { configFile, envFiles, settings, warnings } = yield* load({}, { XDG_STATE_HOME: Path.join(here, "state") })
      assert.deepStrictEqual(settings, Table.defaults("server", Path.join(here, "state", "clawchat")))
      assert.strictEqual(configFile, undefined)
      assert.deepStrictEqual(envFiles, [])
      assert.deepStrictEqual(warnings, [])
      assert.strictEqual(settings.limits.maxSessions, 100)
      assert.strictEqual(settings.llm.port, 55556)
      assert.strictEqual(settings.security.fileValidityMs, 660_000)
      assert.strictEqual(settings.files.basePath, Path.join(here, "state", "clawchat", "data"))
    })
  )

  it.effect("the original names work", () =>
    Effect.gen(function* () {
      const config = Path.join(here, "mine.yaml")
      put(config, "server: { id: abc, name: n, ip: 192.0.2.7, port: 50000 }\nclient: { name: laptop, use_gui: yes }\n")
      const { configFile, settings } = yield* load(
        {},
        {
          CLAWCHAT_HOME: home,
          CLAWCHAT_CONFIG: "mine.yaml",
          CLAWCHAT_LLM_PROVIDER: "deepseek",
          CLAWCHAT_BOOTSTRAP_KEY: "a bootstrap key of some length",
          CLAWCHAT_CONTEXT_DIR: "context",
          CLAWCHAT_BASE_PATH: "~/files",
          CLAWCHAT_SERVER_IP: "2001:DB8::1",
          CLAWCHAT_SERVER_PORT: "50001",
          CLAWCHAT_SECURITY_DIR: "/srv/security",
          DEEPSEEK_API_KEY: "sk-deep",
          CLAWCHAT_LLM_MODEL: "m",
          CLAWCHAT_LLM_BASE_URL: "https://example.org/v1/"
        }
      )
      assert.strictEqual(configFile, config)
      assert.strictEqual(settings.server.id, "abc")
      assert.strictEqual(settings.server.ip, "2001:db8::1")
      assert.strictEqual(settings.server.port, 50001)
      assert.strictEqual(settings.client.name, "laptop")
      assert.isTrue(settings.client.useGui)
      assert.strictEqual(settings.llm.provider, "deepseek")
      assert.strictEqual(settings.llm.baseUrl, "https://example.org/v1")
      assert.strictEqual(settings.llm.contextDirectory, Path.join(here, "context"))
      assert.strictEqual(settings.files.basePath, "/home/user/files")
      assert.strictEqual(settings.security.directory, "/srv/security")
      const { bootstrapKey } = settings.security
      assert.isTrue(bootstrapKey !== undefined && Redacted.value(bootstrapKey) === "a bootstrap key of some length")
      assert.isTrue(
        settings.llm.keys.deepseek !== undefined && Redacted.value(settings.llm.keys.deepseek) === "sk-deep"
      )
      assert.notInclude(JSON.stringify(settings), "sk-deep")
    })
  )

  it.effect("the home: flag, environment, .env here, YAML", () =>
    Effect.gen(function* () {
      put(Path.join(here, "c.yaml"), "home: below\nfiles: { base_path: shared }\n")
      const flags = { config: "c.yaml" }
      const byYaml = yield* load({ flags }, {})
      assert.strictEqual(byYaml.settings.home, Path.join(here, "below"))
      assert.strictEqual(byYaml.settings.files.basePath, Path.join(here, "below", "shared"))
      put(Path.join(here, ".env"), "CLAWCHAT_HOME=by-env-file\n")
      assert.strictEqual((yield* load({ flags }, {})).settings.home, Path.join(here, "by-env-file"))
      assert.strictEqual((yield* load({ flags })).settings.home, home)
      assert.strictEqual((yield* load({ flags: { ...flags, home: "/x" } })).settings.home, "/x")
    })
  )

  it.effect("a client reads client.yaml, and --name names the device", () =>
    Effect.gen(function* () {
      put(Path.join(home, "client.yaml"), "client:\n  use_gui: true\n")
      yaml("nonsense: here\n")
      const { settings } = yield* load({ role: "client", flags: { name: "phone" } })
      assert.isTrue(settings.client.useGui)
      assert.strictEqual(settings.client.name, "phone")
      assert.strictEqual(settings.server.name, "clawchat")
    })
  )

  it.effect("empty variables count as not set", () =>
    Effect.gen(function* () {
      put(Path.join(home, ".env"), "OPENAI_API_KEY=\nCLAWCHAT_SERVER_PORT=\n")
      const { settings } = yield* load({}, { CLAWCHAT_HOME: home, CLAWCHAT_SERVER_NAME: "" })
      assert.deepStrictEqual(settings, Table.defaults("server", home))
    })
  )
})

describe("errors", () => {
  it.effect("every source names file, line and key, all at once", () =>
    Effect.gen(function* () {
      yaml("# one\nserver:\n  name: x\n\nnetworking:\n  retry_interval: soon\n  keepalive_interval: 3 days\n")
      put(Path.join(here, ".env"), "# one\n\nCLAWCHAT_SERVER_PORT=70000\n")
      const problems = yield* problemsOf(
        { flags: { port: "many", bind: "localhost" } },
        { CLAWCHAT_HOME: home, CLAWCHAT_LLM_PROVIDER: "gemini" }
      )
      assert.deepStrictEqual(problems, [
        '--port: expected a whole number from 1 to 65535 or "auto", got "many"',
        '.env:3: CLAWCHAT_SERVER_PORT: expected a whole number from 1 to 65535 or "auto", got "70000"',
        '--bind: expected a numeric IPv4 or IPv6 address, got "localhost"',
        'HOME/config/server.yaml:6: networking.retry_interval: expected a duration such as "5 seconds", got "soon"',
        'HOME/config/server.yaml:7: networking.keepalive_interval: expected a duration from 1 second to 10 minutes, got "3 days"',
        'environment: CLAWCHAT_LLM_PROVIDER: expected one of offline, openai, anthropic, deepseek, openai-compatible or "auto", got "gemini"'
      ])
    })
  )

  it.effect("files below the current folder are named as they are typed", () =>
    Effect.gen(function* () {
      Fs.mkdirSync(Path.join(here, "config"))
      put(Path.join(here, "config", "server.yaml"), "\n\n\n\n\n\n\n\n\n\nnetworking:\n  retry_interval: soon\n")
      const problems = yield* problemsOf({ flags: { config: "config/server.yaml" } })
      assert.deepStrictEqual(problems, [
        'config/server.yaml:12: networking.retry_interval: expected a duration such as "5 seconds", got "soon"'
      ])
    })
  )

  it.effect("unknown names come with a suggestion", () =>
    Effect.gen(function* () {
      yaml(
        "servr: {}\nserver:\n  prot: 1\nnetworking:\n  retry_intervall: 1\nmax_sessions: 7\nzzzzzzzz: 1\nllm:\n  api_key: sk-secret\n"
      )
      put(Path.join(home, ".env"), "CLAWCHAT_SERVER_PROT=1\nSOME_OTHER=1\n")
      assert.deepStrictEqual(yield* problemsOf(), [
        "HOME/config/server.yaml:1: servr: unknown key; did you mean server?",
        "HOME/config/server.yaml:3: server.prot: unknown key; did you mean server.port?",
        "HOME/config/server.yaml:5: networking.retry_intervall: unknown key; did you mean networking.retry_interval?",
        "HOME/config/server.yaml:6: max_sessions: unknown key; did you mean limits.max_sessions?",
        "HOME/config/server.yaml:7: zzzzzzzz: unknown key",
        "HOME/config/server.yaml:9: llm.api_key: secrets do not belong in this file; set CLAWCHAT_LLM_API_KEY in a .env file",
        "HOME/.env:1: CLAWCHAT_SERVER_PROT: unknown setting; did you mean CLAWCHAT_SERVER_PORT?"
      ])
      Fs.rmSync(Path.join(home, ".env"))
      yaml("")
      const { warnings } = yield* load({}, { CLAWCHAT_HOME: home, CLAWCHAT_SERVER_PROT: "1" })
      assert.deepStrictEqual(warnings, [
        "environment: CLAWCHAT_SERVER_PROT: unknown setting; did you mean CLAWCHAT_SERVER_PORT?"
      ])
    })
  )

  const broken: ReadonlyArray<readonly [name: string, text: string, problems: ReadonlyArray<string>]> = [
    ["duplicate keys", "server:\n  port: 1\n  port: 2\n", [":3:3: server.port: already given in line 2"]],
    ["tabs", "server:\n\tport: 1\n", [":2:1: a tab indents this line; use spaces"]],
    ["syntax", "server:\n  bind: @x\n", [":2:9: Plain value cannot start with reserved character @"]],
    ["two documents", "server: {}\n---\nserver: {}\n", [":2:1: a second document begins; only one is read"]],
    ["tags", "server:\n  name: !!str x\n", [":2:15: server.name: tags are not read"]],
    ["custom tags", "server: !thing\n  name: x\n", [":2:3: server: tags are not read"]],
    [
      "aliases",
      "server:\n  id: &a x\n  name: *a\n",
      [":2:10: server.id: anchors and aliases are not read", ":3:9: server.name: anchors and aliases are not read"]
    ],
    [
      "lists",
      "server:\n  port: [1, 2]\nlogging: [a]\n",
      [
        ':2: server.port: expected a port number from 1 to 65535 or "auto", got a list',
        ":3: logging: expected keys and values below it, got a list"
      ]
    ],
    [
      "sections as values",
      "server:\n  port: { a: 1 }\n",
      [':2: server.port: expected a port number from 1 to 65535 or "auto", got a section']
    ],
    ["values as sections", "server: x\n", [':1: server: expected keys and values below it, got "x"']],
    ["no map", "just words\n", [':1: expected keys and values below it, got "just words"']],
    ["merge keys", "server:\n  <<: { port: 1 }\n", [':2: "server.<<": unknown key']],
    ["deep nesting", "[".repeat(100_000), [":1:807: nested too deeply"]],
    ["deep blocks", "- ".repeat(100_000), [":1:1909: nested too deeply"]],
    [
      "a validity below the period",
      "security: { file_validity_minutes: 5 }\n",
      [
        ":1: security.file_validity_minutes: security.auto_regenerate_minutes must be less than security.file_validity_minutes"
      ]
    ]
  ]
  for (const [name, text, problems] of broken) {
    it.effect(`YAML: ${name}`, () =>
      Effect.gen(function* () {
        yaml(text)
        const found = yield* problemsOf()
        const place = (problem: string) => problem.replace(/:1:\d+: nested/, ":1:N: nested")
        if (name.startsWith("deep"))
          assert.strictEqual(place(found[0] ?? ""), "HOME/config/server.yaml:1:N: nested too deeply")
        else
          assert.deepStrictEqual(
            found,
            problems.map((problem) => `HOME/config/server.yaml${problem}`)
          )
      })
    )
  }

  it.effect("an alias bomb is refused without being expanded", () =>
    Effect.gen(function* () {
      const levels = Array.from({ length: 30 }, (_, i) => `l${i + 1}: &l${i + 1} [*l${i}, *l${i}, *l${i}]`)
      yaml(`l0: &l0 [x]\n${levels.join("\n")}\n`)
      const problems = yield* problemsOf()
      assert.strictEqual(problems.length, 31)
      assert.strictEqual(problems[0], "HOME/config/server.yaml:1: l0: unknown key")
    })
  )

  it.effect("files that are too large, no text, or no files", () =>
    Effect.gen(function* () {
      const file = Path.join(here, "x.yaml")
      const flags = { config: "x.yaml" }
      assert.deepStrictEqual(yield* problemsOf({ flags }), ['--config: there is no file "x.yaml"'])
      put(file, "#".repeat(256 * 1024 + 1))
      assert.deepStrictEqual(yield* problemsOf({ flags }), ["x.yaml: is larger than 262144 bytes"])
      put(file, new Uint8Array([0x61, 0xff, 0x62]))
      assert.deepStrictEqual(yield* problemsOf({ flags }), ["x.yaml: is not UTF-8 text"])
      put(file, "a\0b")
      assert.deepStrictEqual(yield* problemsOf({ flags }), ["x.yaml: is not text"])
      Fs.rmSync(file)
      Fs.mkdirSync(file)
      assert.deepStrictEqual(yield* problemsOf({ flags }), ["x.yaml: is not a plain file"])
      assert.deepStrictEqual(yield* problemsOf({}, { CLAWCHAT_HOME: home, CLAWCHAT_CONFIG: "/dev/null" }), [
        "/dev/null: is not a plain file"
      ])
    })
  )

  it.effect("no secret appears in any error or warning", () =>
    Effect.gen(function* () {
      const mark = "SECRETMARK"
      put(
        Path.join(home, ".env"),
        `OPENAI_API_KEY=${mark} with spaces\nDEEPSEEK_API_KEY="${mark}\nANTHROPIC_API_KEY=${mark}\nANTHROPIC_API_KEY=${mark}2\n${mark}\n`
      )
      yaml(`llm:\n  openai_api_key: ${mark}\n`)
      const problems = yield* problemsOf({}, { CLAWCHAT_HOME: home, CLAWCHAT_BOOTSTRAP_KEY: mark })
      assert.deepStrictEqual(problems, [
        "HOME/config/server.yaml:2: llm.openai_api_key: secrets do not belong in this file; set OPENAI_API_KEY in a .env file",
        "HOME/.env:2: DEEPSEEK_API_KEY: the quote does not end at the end of the line",
        "HOME/.env:4: ANTHROPIC_API_KEY: already set in line 3",
        "HOME/.env:5: expected NAME=value",
        "environment: CLAWCHAT_BOOTSTRAP_KEY: expected one line of 16 to 1024 characters",
        "HOME/.env:1: OPENAI_API_KEY: expected 1 to 1024 printable ASCII characters without spaces"
      ])
    })
  )

  it.effect("a .env of the current folder cannot redirect keys that were set elsewhere", () =>
    Effect.gen(function* () {
      put(Path.join(here, ".env"), "CLAWCHAT_LLM_BASE_URL=https://elsewhere.example\n")
      const environment = { CLAWCHAT_HOME: home, OPENAI_API_KEY: "sk-mine" }
      assert.deepStrictEqual(yield* problemsOf({}, environment), [
        ".env:1: CLAWCHAT_LLM_BASE_URL: the .env of the current folder may not choose a host for keys that were set elsewhere; set it where the key is set"
      ])
      put(Path.join(here, ".env"), "CLAWCHAT_LLM_BASE_URL=https://elsewhere.example\nOPENAI_API_KEY=sk-here\n")
      assert.strictEqual((yield* load()).settings.llm.baseUrl, "https://elsewhere.example")
    })
  )

  it.effect("a home's own .env cannot move the home", () =>
    Effect.gen(function* () {
      put(Path.join(home, ".env"), "CLAWCHAT_HOME=/elsewhere\n")
      assert.deepStrictEqual(yield* problemsOf(), [
        "HOME/.env:1: CLAWCHAT_HOME: comes too late in a file of the home; set it in the environment"
      ])
    })
  )

  it.effect.skipIf(process.platform === "win32")(
    "keys that others may read draw a warning, a .env they may write is not read",
    () =>
      Effect.gen(function* () {
        const path = Path.join(home, ".env")
        put(path, "OPENAI_API_KEY=k\n")
        Fs.chmodSync(path, 0o644)
        const { warnings } = yield* load()
        assert.deepStrictEqual(warnings, [`${path}: holds keys and others have access; run: chmod 600 ${path}`])
        put(Path.join(here, ".env"), "CLAWCHAT_SERVER_NAME=planted\n")
        Fs.chmodSync(Path.join(here, ".env"), 0o666)
        const planted = yield* load()
        assert.strictEqual(planted.settings.server.name, "clawchat")
        assert.include(planted.warnings, ".env: ignored, others may write it")
      })
  )

  it("refused values are escaped and cut", () => {
    assert.strictEqual(GivenSettings.shown("a\u001b[31m\u0007\u202e\u0085"), '"a\\u001b[31m\\u0007\\u202e\\u0085"')
    assert.strictEqual(GivenSettings.shown("x".repeat(100)), `"${"x".repeat(60)}..."`)
  })
})

describe(".env files", () => {
  it("quotes, comments, export, line ends", () => {
    const text =
      '\ufeff# c\r\n\r\nexport A = 1 # one\nB=\'x # y\' # z\nC="q\\"\\n\\t\\\\\\d" \nD=a#b\nE=\nF=$A\nG= # none\n  H=x=y\n'
    assert.deepStrictEqual(EnvFile.parse(text), {
      assignments: [
        { name: "A", value: "1", line: 3 },
        { name: "B", value: "x # y", line: 4 },
        { name: "C", value: 'q"\n\t\\\\d', line: 5 },
        { name: "D", value: "a#b", line: 6 },
        { name: "E", value: "", line: 7 },
        { name: "F", value: "$A", line: 8 },
        { name: "G", value: "", line: 9 },
        { name: "H", value: "x=y", line: 10 }
      ],
      problems: []
    })
  })
})

describe("kinds", () => {
  const good: ReadonlyArray<readonly [key: string, text: string, value: unknown]> = [
    ["networking.retry_interval", "5", 5000],
    ["networking.retry_interval", "1500ms", 1500],
    ["networking.retry_interval", "1.5 minutes", 90_000],
    ["networking.retry_interval", "1H", 3_600_000],
    ["security.auto_regenerate_minutes", "0.5", 30_000],
    ["logging.max_size", "1.5 kB", undefined],
    ["logging.max_size", "10MB", 10_000_000],
    ["logging.max_size", "8192", 8192],
    ["files.read_only", "Yes", true],
    ["files.read_only", "maybe", undefined],
    ["server.bind", "::", "::"],
    ["server.bind", "1.2.3", undefined],
    ["server.bind", "01.2.3.4", undefined],
    ["server.name", "é".repeat(33), undefined],
    ["server.name", "a\nb", undefined],
    ["limits.max_sessions", "0", undefined],
    ["limits.max_sessions", "1e2", undefined],
    ["llm.base_url", "ftp://x", undefined],
    ["llm.base_url", "https://u:p@x", undefined],
    ["networking.retry_interval", "-1", undefined],
    ["networking.retry_interval", "Infinity", undefined]
  ]
  for (const [key, text, value] of good) {
    it(`${key}: ${JSON.stringify(text)}`, () => {
      const given = { key, text, source: "flag" as const, where: "--x", resolve: (path: string) => path }
      const { problems, values } = GivenSettings.resolve("server", "/h", [given])
      assert.strictEqual(problems.length, value === undefined ? 1 : 0)
      const [section, name] = key.split(".")
      if (value !== undefined) {
        const shown = JSON.parse(JSON.stringify(values))[section ?? ""]
        assert.include(Object.values(shown), value, name)
      }
    })
  }
})

describe("shipped files", () => {
  const keysOf = (text: string) => {
    const sections: Array<string> = []
    return text.split("\n").flatMap((line) => {
      const parts = /^( *)([a-z_]+):(.*)$/.exec(line)
      if (parts === null) return []
      const depth = (parts[1] ?? "").length / 2
      sections.splice(depth, sections.length, parts[2] ?? "")
      return (parts[3] ?? "").trim() === "" ? [] : [sections.join(".")]
    })
  }

  for (const role of ["server", "client"] as const) {
    it.effect(`config/${role}.yaml shows every key at its default`, () =>
      Effect.gen(function* () {
        const config = Path.join(repository, "config", `${role}.yaml`)
        // auto stands for the standard home there, as here.
        const { origins, settings } = yield* load({ role, flags: { config } }, { XDG_STATE_HOME: home })
        assert.deepStrictEqual(settings, Table.defaults(role, Path.join(home, "clawchat")))
        const expected = Table.entries.filter((entry) => entry.in === role || entry.in === "both")
        assert.deepStrictEqual([...origins.keys()].sort(), expected.map(({ key }) => key).sort())
        const text = Fs.readFileSync(config, "utf8")
        assert.deepStrictEqual(keysOf(text).sort(), expected.map(({ key }) => key).sort())
        const lines = text.split("\n")
        for (const { default: value, key, later } of expected) {
          const own = lines.findIndex((line) => line.trim() === `${key.split(".").at(-1)}: ${value}`)
          assert.isAtLeast(own, 0, key)
          if (later === true) assert.include(`${lines[own - 1]}`, "Used from a later release.", key)
        }
      })
    )
  }

  it.effect(".env.example shows every variable, all unset", () =>
    Effect.gen(function* () {
      const text = Fs.readFileSync(Path.join(repository, ".env.example"), "utf8")
      const { assignments, problems } = EnvFile.parse(text)
      assert.deepStrictEqual(problems, [])
      assert.deepStrictEqual(assignments.map(({ name }) => name).sort(), [...Table.variables].sort())
      put(Path.join(home, "config", ".env"), text)
      const { settings, warnings } = yield* load()
      assert.deepStrictEqual(settings, Table.defaults("server", home))
      assert.deepStrictEqual(warnings, [])
    })
  )
})

describe("home paths", () => {
  it("default homes", () => {
    const facts = { platform: "linux", userHome: "/home/u", environment: {} }
    assert.strictEqual(HomePaths.defaultHome(facts), "/home/u/.local/state/clawchat")
    assert.strictEqual(HomePaths.defaultHome({ ...facts, environment: { XDG_STATE_HOME: "/s" } }), "/s/clawchat")
    assert.strictEqual(
      HomePaths.defaultHome({ ...facts, environment: { XDG_STATE_HOME: "s" } }),
      "/home/u/.local/state/clawchat"
    )
    const windows = { platform: "win32", userHome: "C:\\Users\\u", environment: {} }
    assert.strictEqual(HomePaths.defaultHome(windows), "C:\\Users\\u\\AppData\\Local\\clawchat")
    assert.strictEqual(HomePaths.defaultHome({ ...windows, environment: { LOCALAPPDATA: "D:\\L" } }), "D:\\L\\clawchat")
  })

  it("tiers share a home without sharing a path, the link apart", () => {
    const server = HomePaths.server("/h")
    const llm = HomePaths.llm("/h")
    const client = HomePaths.client(HomePaths.clientBeside("/h"))
    assert.strictEqual(server.credential, "/h/security/clawchat-current.sec")
    assert.strictEqual(llm.staticKey, "/h/llm/identity/static.key")
    assert.strictEqual(client.staticKey, "/h/client/identity/static.key")
    assert.strictEqual(HomePaths.server("/").run, "/run")
    assert.strictEqual(HomePaths.server("C:\\h\\").staticKey, "C:\\h\\identity\\static.key")
    const shared = Object.values(server).filter((path) => Object.values(llm).includes(path))
    assert.deepStrictEqual(shared.sort(), [
      "/h",
      "/h/config/server.yaml",
      "/h/data",
      "/h/identity/llm.link",
      "/h/identity/llm.pub",
      "/h/identity/server.pub"
    ])
  })
})
