/** A paired server that turned hostile: whatever it says about files, this host stays as it was outside the user's target. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as BlockTree from "../../src/domain/BlockTree.ts"
import { BLOCK_LENGTH } from "../../src/domain/RemoteFile.ts"
import type * as TransferFrame from "../../src/domain/TransferFrame.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as Network from "../../src/programs/cli/Layers.ts"
import * as TransferSender from "../../src/programs/TransferSender.ts"
import * as LyingServer from "./LyingServer.ts"
import { command } from "./Tiers.ts"

type Frame = TransferFrame.Frame
type Answer = LyingServer.Answer

class Liar extends Context.Service<Liar, LyingServer.LyingServer>()("clawchat/test/outside/Liar") {
  static readonly layer = Layer.effect(Liar, LyingServer.make)
}

const facts = (kind: string) => ({ kind, size: kind === "file" ? 5 : 0, mtimeMs: 7, mode: 0o4777 & 0o777 })
const found = (path: string, kind = "file") => ({ path, ...facts(kind) })
const walk = (...entries: ReadonlyArray<object>): Answer => ({ value: { entries, unnamed: 0, unread: [] } })

/** A folder of any name, and lists of it. */
const folder =
  (find: Answer, list: Answer = { value: { entries: [], unnamed: 0 } }): LyingServer.Lies["call"] =>
  (tag, { path }) => {
    if (tag === "Files.Stat") return { value: { path: `/${String(path).replace(/^\/+/, "")}`, ...facts("folder") } }
    if (tag === "Files.List") return list
    return tag === "Files.Find" ? find : "silence"
  }

/** One file of any name, of so many bytes. */
const file =
  (size: number): LyingServer.Lies["call"] =>
  (tag, { path }) =>
    tag === "Files.Stat"
      ? { value: { path: `/${String(path).replace(/^\/+/, "")}`, ...facts("file"), size, version: "0".repeat(32) } }
      : "silence"

const content = new TextEncoder().encode("hello")
const honest = (frame: Frame): ReadonlyArray<Frame> => {
  if (frame._tag !== "Want") return []
  const { id } = frame
  return [head(id, content.length), { _tag: "Data", id, bytes: content }, { _tag: "End", id, root: rootOf(content) }]
}
const head = (id: number, size: number): Frame => ({
  _tag: "File",
  id,
  facts: { size, mtimeMs: 7, mode: 0o777, fingerprint: "f" }
})
const rootOf = (bytes: Uint8Array): Uint8Array => {
  const tree = new BlockTree.BlockTree(CryptoNode.primitives.hash)
  tree.push(CryptoNode.primitives.hash(bytes), bytes.length)
  return tree.root()
}

/** All that stands below a folder, with contents. */
const snapshot = (at: string, but: string): ReadonlyArray<string> =>
  Fs.readdirSync(at, { recursive: true, encoding: "utf8", withFileTypes: true })
    .map((entry) => Path.join(entry.parentPath, entry.name))
    .filter((path) => path !== but && !path.startsWith(`${but}/`))
    .map((path) => `${path} ${Fs.lstatSync(path).isFile() ? Fs.readFileSync(path, "utf8") : ""}`)
    .sort()

/** Runs one command with these lies, in a folder of its own; `{}` in its arguments is the target. */
const told = Effect.fnUntraced(function* (
  args: ReadonlyArray<string>,
  call: LyingServer.Lies["call"],
  frame: LyingServer.Lies["frame"] = honest
) {
  const liar = yield* Liar
  const box = Fs.mkdtempSync(Path.join(liar.folder, "box-"))
  const target = Path.join(box, "a/b/target")
  Fs.mkdirSync(target, { recursive: true })
  Fs.writeFileSync(Path.join(box, "canary"), "sings")
  const before = snapshot(box, target)
  liar.lies = { call, frame }
  liar.calls = 0
  const result = yield* command(["files", ...args.map((arg) => arg.replace("{}", target))], {
    CLAWCHAT_HOME: liar.client
  })
  assert.deepStrictEqual(snapshot(box, target), before, args.join(" "))
  const said = `${args.join(" ")}: ${result.out}${result.err}`
  assert.notMatch(said, /should not have happened|^\s+at |TypeError|RangeError/m)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what may not be there
  assert.notMatch(said, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/)
  return { ...result, target, names: Fs.readdirSync(target, { recursive: true, encoding: "utf8" }).sort(), said }
})

const environment = Liar.layer.pipe(Layer.provideMerge(Network.network), Layer.provide(Logger.layer([])))

layer(environment, { excludeTestServices: true, timeout: "60 seconds" })("a server that lies", (it) => {
  it.effect("about names: no list with one that leads elsewhere is believed", () =>
    Effect.gen(function* () {
      const evil = ["../../x", "/etc/x", "a\\b", "a\0b", "a/../../../x", "."]
      const commands: ReadonlyArray<ReadonlyArray<string>> = [
        ["get", "-r", "f", "{}"],
        ["sync", "--back", "--delete", "{}", "f"],
        ["ls", "-r", "f"],
        ["tree", "f"],
        ["find", "f"],
        ["get", "-r", "f/..data", "{}"]
      ]
      for (const [i, args] of commands.entries()) {
        const { code, err, names, said } = yield* told(args, folder(walk(found(evil[i] ?? ""))))
        assert.strictEqual(code, 1, said)
        assert.match(err, /the list makes no sense/, said)
        assert.deepStrictEqual(
          names.filter((name) => name !== "f" && name !== "..data"),
          []
        )
      }
    })
  )

  it.effect("about which file it is: the user's word decides what is written", () =>
    Effect.gen(function* () {
      for (const path of ["/.profile", "/../../canary"]) {
        const lie: LyingServer.Lies["call"] = () => ({ value: { path, ...facts("file") } })
        const { code, err, names, said } = yield* told(["get", "notes.txt", "{}"], lie)
        assert.strictEqual(code, 1, said)
        assert.match(err, /the answer is about another path/)
        assert.deepStrictEqual(names, [])
      }
    })
  )

  it.effect(
    "about kinds: links and devices are not made, twins and impossible trees do no harm, the store's names are not given",
    () =>
      Effect.gen(function* () {
        const entries = [
          found(".clawchat-part-x"),
          found("A"),
          found("a"),
          found("b", "folder"),
          found("b/c"),
          found("b/c/d"),
          found("dev", "other"),
          found("e\u0301"),
          found("link", "link"),
          found("\u00e9")
        ]
        const { code, err, names, said, target } = yield* told(["get", "-r", "f", "{}/new"], folder(walk(...entries)))
        assert.strictEqual(code, 2, said)
        assert.match(err, /belong to the store/)
        assert.match(err, /1 link was left out, namely "link"/)
        assert.match(err, /1 special file was left out, namely "dev"/)
        assert.includeMembers(names, ["new", "new/A", "new/a", "new/b"])
        for (const name of names) {
          const stats = Fs.lstatSync(Path.join(target, name))
          assert.isTrue(stats.isFile() || stats.isDirectory(), name)
          if (stats.isFile()) assert.strictEqual(stats.mode & 0o7022, 0, name)
        }
        const device = yield* told(["ls", "-r", "f"], folder(walk(found("x", "device"))))
        assert.strictEqual(device.code, 1, device.said)
        assert.match(device.err, /could not be understood/)
      })
  )

  it.effect("about bytes: what does not fit its hash or its length is not there afterwards", () =>
    Effect.gen(function* () {
      const block = new Uint8Array(BLOCK_LENGTH).fill(1)
      const bad = new Uint8Array(32)
      const pieces = (id: number): ReadonlyArray<Frame> => TransferSender.block(id, block, bad)
      const lies: Readonly<Record<string, (frame: Frame) => ReadonlyArray<Frame | Uint8Array>>> = {
        "/f/hash": (frame) => honest(frame).map((each) => (each._tag === "End" ? { ...each, root: bad } : each)),
        "/f/less": (frame) => honest(frame).map((each) => (each._tag === "File" ? head(each.id, 6) : each)),
        "/f/more": (frame) => honest(frame).map((each) => (each._tag === "File" ? head(each.id, 4) : each)),
        "/f/tree": ({ _tag, id }) =>
          _tag === "Want" ? [head(id, 2 * BLOCK_LENGTH)] : _tag === "Accept" ? pieces(id) : [],
        "/f/vast": ({ _tag, id }) => (_tag === "Want" ? [head(id, 2 ** 50)] : [])
      }
      const large = new Map<number, string>()
      const frame: LyingServer.Lies["frame"] = (frame) => {
        if (frame._tag === "Want") large.set(frame.id, frame.path)
        return lies[large.get(frame.id) ?? ""]?.(frame) ?? []
      }
      const entries = Object.keys(lies).map((path) => found(path.slice(3)))
      const { code, err, names, said } = yield* told(["get", "-r", "f", "{}/new"], folder(walk(...entries)), frame)
      assert.strictEqual(code, 1, said)
      assert.match(err, /does not fit its hash/)
      assert.match(err, /5 files failed/)
      assert.deepStrictEqual(names, ["new"])
    })
  )

  it.effect("without end: pages, folders within folders, one line, silence", () =>
    Effect.gen(function* () {
      const liar = yield* Liar
      const more: Answer = { value: { entries: [], unnamed: 2 ** 53 - 1, unread: [], cursor: "more" } }
      const empty = yield* told(["get", "-r", "f", "{}"], folder(more))
      assert.strictEqual(empty.code, 1, empty.said)
      assert.match(empty.err, /more than 1000000 entries/)
      assert.isAtMost(liar.calls, 1100)
      const same: Answer = { value: { entries: [{ name: "x", ...facts("folder") }], unnamed: 0, cursor: "x" } }
      const round = yield* told(["ls", "f"], folder(more, same))
      assert.strictEqual(round.code, 1, round.said)
      assert.match(round.err, /the list makes no sense/)

      const deeper: LyingServer.Lies["call"] = (tag) =>
        tag === "Files.Stat"
          ? { error: { _tag: "FilesError", reason: "NotFound", message: "no" } }
          : { value: { entries: [{ name: "x", ...facts("folder") }], unnamed: 0 } }
      const deep = yield* told(["get", "**/y", "{}"], deeper)
      assert.strictEqual(deep.code, 3, deep.said)
      assert.isAtMost(liar.calls, 300)

      const flood = yield* told(["ls", "f"], folder(more, { flood: new Uint8Array(1024 * 1024).fill(0x61) }))
      assert.strictEqual(flood.code, 1, flood.said)
      assert.match(flood.err, /could not be understood/)

      // Side by side, and long enough to connect on a busy machine.
      const quiet: LyingServer.Lies["call"] = (tag, payload) => {
        if (payload.path === "du") return "silence"
        return payload.path === "ls" ? folder(more, "silence")(tag, payload) : file(5)(tag, payload)
      }
      const ends = yield* Effect.forEach(
        [
          ["ls", "ls"],
          ["du", "du"],
          ["get", "f", "{}"],
          ["cat", "f"]
        ],
        (args) => told([...args, "--timeout", "6"], quiet, () => []),
        { concurrency: "unbounded" }
      )
      for (const { code, err, said } of ends) {
        assert.strictEqual(code, 75, said)
        assert.match(err, /silent for 6 s: try again/)
      }
    })
  )

  it.effect("with words that steer terminals, and times that no date can say", () =>
    Effect.gen(function* () {
      const message = "\u001b[2J\u001b]0;owned\u0007\u202egnp.exe"
      const refusal: Answer = { error: { _tag: "FilesError", reason: "Denied", message } }
      for (const args of [
        ["ls", "f"],
        ["rm", "f"],
        ["get", "f", "{}"]
      ]) {
        const { code, said } = yield* told(args, () => refusal)
        assert.strictEqual(code, 4, said)
      }
      const fail = ({ _tag, id }: Frame): ReadonlyArray<Frame> =>
        _tag === "Want" ? [{ _tag: "Fail", id, reason: "Denied", message }] : []
      for (const args of [
        ["cat", "f"],
        ["get", "f", "-"],
        ["get", "f", "{}"]
      ]) {
        const { code, said } = yield* told(args, file(5), fail)
        assert.strictEqual(code, 4, said)
      }
      const late = { value: { entries: [{ name: "x", ...facts("file"), mtimeMs: 9e15 }], unnamed: 0 } }
      const { code, err, said } = yield* told(["ls", "f"], folder("silence", late))
      assert.strictEqual(code, 1, said)
      assert.match(err, /could not be understood/)
    })
  )
})
