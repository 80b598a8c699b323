/** The documents against the code: whoever changes one learns which page has to follow. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Console from "effect/Console"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as ContextPrompt from "../src/domain/ContextPrompt.ts"
import { ControlRpc } from "../src/domain/ControlRpc.ts"
import { FilesRpc } from "../src/domain/FilesRpc.ts"
import { providerDefaults } from "../src/domain/Llm.ts"
import { LlmRpc } from "../src/domain/LlmRpc.ts"
import { CloseCode } from "../src/domain/protocol/CloseCode.ts"
import * as Constants from "../src/domain/protocol/Constants.ts"
import { Writer } from "../src/domain/protocol/Cursor.ts"
import * as Frame from "../src/domain/protocol/Frame.ts"
import * as Settings from "../src/domain/Settings.ts"
import * as StreamHeader from "../src/domain/StreamHeader.ts"
import { command } from "../src/programs/cli/Catalog.ts"
import { ExitCode } from "../src/programs/cli/Failure.ts"

const root = Path.resolve(import.meta.dirname, "..")
const read = (name: string): string => Fs.readFileSync(Path.join(root, name), "utf8")
const pages = ["README.md", "AGENTS.md", ...Fs.readdirSync(Path.join(root, "docs")).map((name) => `docs/${name}`)]
const protocol = read("docs/PROTOCOL.md")
const readme = read("README.md")

/** The part of a page under one heading. */
const section = (page: string, heading: string): string => {
  const at = page.indexOf(`\n${heading}\n`)
  assert.notStrictEqual(at, -1, `no section "${heading}"`)
  const rest = page.slice(at + 1 + heading.length)
  const end = rest.search(new RegExp(`\\n#{1,${heading.indexOf(" ")}} `))
  return rest.slice(0, end === -1 ? undefined : end)
}

/** Cells of all table rows in a text. */
const rows = (text: string): ReadonlyArray<ReadonlyArray<string>> =>
  text
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .map((line) =>
      line
        .slice(1, -1)
        .split("|")
        .map((cell) => cell.trim())
    )

/** First and second cells of the rows whose cell number `by` is in backticks. */
const named = (text: string, by = 0): ReadonlyArray<readonly [string, ReadonlyArray<string>]> =>
  rows(text).flatMap((cells) => {
    const name = /^`([^`]+)`/.exec(cells[by] ?? "")?.[1]
    return name === undefined ? [] : [[name, cells] as const]
  })

describe("docs/PROTOCOL.md", () => {
  it("lists every constant with its value, and no other", () => {
    const listed = Object.fromEntries(
      named(section(protocol, "## 20. Constants")).map(([name, cells]) => [name, cells[1]])
    )
    const actual = Object.fromEntries(
      Object.entries(Constants).map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : String(value)])
    )
    assert.deepStrictEqual(listed, actual)
    for (const [, name] of protocol.matchAll(/`(?!CLAWCHAT_)([A-Z]+(?:_[A-Z]+)+)`/g)) {
      assert.isTrue(Object.hasOwn(Constants, name ?? ""), `${name} is no constant`)
    }
  })

  it("numbers frames as they are encoded", () => {
    const token = new Uint8Array(8)
    const key = new Uint8Array(32)
    const frames: Record<string, Frame.Frame> = {
      PADDING: { type: "Padding", length: 1 },
      PING: { type: "Ping" },
      ACK: { type: "Ack", ranges: [{ start: 0, end: 0 }], delayUs: 0 },
      RESET: { type: "Reset", id: 0, code: 0, finalSize: 0 },
      STOP: { type: "Stop", id: 0, code: 0 },
      STREAM: { type: "Stream", id: 0, offset: 0, data: token, fin: false },
      "STREAM with FIN": { type: "Stream", id: 0, offset: 0, data: token, fin: true },
      DATAGRAM: { type: "Datagram", data: token },
      MAX_DATA: { type: "MaxData", limit: 0 },
      MAX_STREAM_DATA: { type: "MaxStreamData", id: 0, limit: 0 },
      MAX_STREAMS: { type: "MaxStreams", limit: 0 },
      PATH_CHALLENGE: { type: "PathChallenge", token },
      PATH_RESPONSE: { type: "PathResponse", token },
      NEW_CID: { type: "NewCid", sequence: 0, retirePriorTo: 0, cid: token },
      RETIRE_CID: { type: "RetireCid", sequence: 0 },
      REKEY: { type: "Rekey", epoch: 0, key },
      REKEY_ACK: { type: "RekeyAck", epoch: 0, key },
      PORT_ANNOUNCE: { type: "PortAnnounce", port: 1, inMs: 0 },
      OBSERVED_ADDR: { type: "ObservedAddr", address: { host: "192.0.2.1", port: 1 } },
      COMPROMISED: { type: "Compromised", token: key },
      COMPROMISED_ACK: { type: "CompromisedAck", token: key },
      CLOSE: { type: "Close", code: 0, reason: "" },
      CANDIDATES: { type: "Candidates", addresses: [{ host: "192.0.2.1", port: 1 }] }
    }
    const actual = Object.entries(frames).map(([name, frame]) => {
      const writer = new Writer(new Uint8Array(64))
      Frame.encode(writer, frame)
      return `0x${(writer.bytes[0] as number).toString(16).padStart(2, "0")} ${name}`
    })
    const listed = rows(section(protocol, "## 15. Frames [wire]")).filter(([number]) => number?.startsWith("0x"))
    assert.deepStrictEqual(
      listed.map(([number, name]) => `${number} ${name}`),
      actual
    )
  })

  it("numbers close codes, stream codes and stream headers as the code does", () => {
    const ends = section(protocol, "## 18. Paths, timers, the end")
    assert.deepStrictEqual(
      Object.fromEntries(
        named(ends, 1)
          .filter(([, [code]]) => /^\d+$/.test(code ?? ""))
          .map(([name, [code]]) => [name, Number(code)])
      ),
      Object.fromEntries(Object.entries(CloseCode))
    )
    const application = section(protocol, "### Stream headers [wire]")
    assert.deepStrictEqual(
      Object.fromEntries(
        named(application, 1)
          .filter(([, [code]]) => code?.startsWith("0x"))
          .map(([name, [code]]) => [name, Number(code)])
      ),
      Object.fromEntries(Object.entries(StreamHeader.Code))
    )
    assert.deepStrictEqual([...StreamHeader.server(), ...StreamHeader.llm()], [0x01, 0x02, 0x02])
  })

  it("lists every procedure", () => {
    const procedures = [ControlRpc, FilesRpc, LlmRpc].flatMap((group) => [...group.requests.keys()])
    const listed = named(section(protocol, "### RPC [wire]")).map(([name]) => name)
    assert.deepStrictEqual(
      listed.filter((name) => name.includes(".")),
      procedures
    )
  })
})

describe("README.md", () => {
  it("lists every command, and no other", () => {
    interface Verb {
      readonly name: string
      readonly subcommands: ReadonlyArray<{ readonly commands: ReadonlyArray<Verb> }>
    }
    const leaves = (at: Verb, path: string): ReadonlyArray<string> => {
      const below = at.subcommands.flatMap(({ commands }) => commands)
      return below.length === 0 ? [path] : below.flatMap((each) => leaves(each, `${path} ${each.name}`))
    }
    const listed = named(section(readme, "## Commands"))
      .filter(([name]) => name.startsWith("clawchat "))
      .map(([name]) => name.replace(/ (?:FILE|"TEXT")$/, ""))
    assert.deepStrictEqual([...new Set(listed)].sort(), [...leaves(command, "clawchat")].sort())
  })

  it("lists every exit code", () => {
    const listed = rows(section(readme, "### Exit codes")).map(([code]) => Number(code))
    assert.deepStrictEqual(listed.filter(Number.isInteger), Object.values(ExitCode))
  })
})

describe("flags", () => {
  const all = async (args: ReadonlyArray<string>): Promise<string> => {
    const lines: Array<string> = []
    const printed = Effect.provideService(Console.Console, {
      ...globalThis.console,
      log: (line: unknown) => lines.push(String(line))
    })
    await Effect.runPromise(
      Command.runWith(command, { version: "" })([...args, "--help"]).pipe(printed, Effect.provide(NodeServices.layer))
    )
    return lines.join("\n")
  }

  it("that the shipped files name are flags of a command", async () => {
    const verbs = {
      server: `${await all(["server"])}${await all(["llm"])}`,
      client: `${await all(["chat"])}${await all(["pair"])}${await all(["client"])}`
    }
    for (const [role, help] of Object.entries(verbs)) {
      const flags = [...read(`config/${role}.yaml`).matchAll(/--([a-z][a-z-]*)/g)].map(([, name]) => name)
      assert.isAbove(flags.length, 1)
      for (const name of flags) assert.match(help, new RegExp(`--${name}\\b`), role)
    }
    for (const { flag, key } of Settings.entries) {
      if (flag !== undefined) assert.match(verbs.server, new RegExp(`--${flag}\\b`), key)
    }
  })
})

describe("other documents", () => {
  it("name providers, models and limits as they are", () => {
    const page = read("docs/LLM_BRIDGE.md")
    for (const [name, { baseUrl, keyVariable, model }] of Object.entries(providerDefaults)) {
      const cells = named(page).find(([provider]) => provider === name)?.[1]
      assert.isDefined(cells, name)
      for (const value of [keyVariable, model, baseUrl]) {
        if (value !== undefined) assert.include(cells?.join(" "), `\`${value}\``)
      }
    }
    const context = read("docs/CONTEXT_SYSTEM.md")
    assert.include(context, ContextPrompt.maxFileBytes.toLocaleString("en-GB"))
    assert.deepStrictEqual(
      named(section(context, "## Context files")).map(([name, cells]) => [name, cells[2], cells[3]?.split(",")[0]]),
      ContextPrompt.fileNames.map((name) => {
        const { budget, priority } = ContextPrompt.defaultPlaces[name]
        return [name, String(priority), String(budget)]
      })
    )
  })

  it("list every tool", () => {
    const folder = Path.join(root, "src/programs")
    const sources = Fs.readdirSync(folder).filter((name) => name.endsWith("Tools.ts"))
    const tools = sources.flatMap((name) =>
      [...Fs.readFileSync(Path.join(folder, name), "utf8").matchAll(/Tool\.make\(\{\s+name: "([a-z_]+)"/g)].map(
        ([, tool]) => tool
      )
    )
    assert.isAbove(tools.length, 10)
    const listed = named(section(read("docs/CONTEXT_SYSTEM.md"), "## Tools")).map(([name]) => name)
    assert.deepStrictEqual(listed.toSorted(), tools.toSorted())
  })

  it("have links that resolve", () => {
    let links = 0
    for (const page of pages) {
      for (const [, target = ""] of read(page).matchAll(/\]\(([^)#]+)[^)]*\)/g)) {
        if (/^[a-z]+:/.test(target)) continue
        links++
        assert.isTrue(Fs.existsSync(Path.join(root, Path.dirname(page), target)), `${page}: ${target}`)
      }
    }
    assert.isAbove(links, 10)
  })

  it("name files that exist", () => {
    const sources = Fs.readdirSync(Path.join(root, "src"), { recursive: true }).map((name) =>
      Path.basename(String(name))
    )
    for (const page of ["AGENTS.md", "docs/ARCHITECTURE.md"]) {
      for (const [, name = ""] of read(page).matchAll(/`([\w./-]+)`/g)) {
        if (/^(?:src|test|bench|tools|docs|bin|config|context|systemd)\//.test(name)) {
          assert.isTrue(Fs.existsSync(Path.join(root, name)), `${page}: ${name}`)
        } else if (/\w\.ts$/.test(name)) assert.include(sources, Path.basename(name), page)
      }
    }
  })
})
