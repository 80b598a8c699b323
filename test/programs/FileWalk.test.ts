import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { Entry, FilesError, Found, type Kind, Page, Stat, slice, Walk } from "../../src/domain/RemoteFile.ts"
import * as FileWalk from "../../src/programs/FileWalk.ts"

const facts = (kind: Kind) => ({ kind, size: kind === "file" ? 3 : 0, mtimeMs: 7, mode: 0o600 })

/** Paths of files and, ending in a slash, folders; pages of two. */
const store = (...paths: ReadonlyArray<string>) => {
  const kinds = new Map<string, Kind>([["", "folder"]])
  for (const path of paths) {
    const names = path.split("/").filter((name) => name !== "")
    for (let i = 1; i < names.length; i++) kinds.set(names.slice(0, i).join("/"), "folder")
    kinds.set(names.join("/"), path.endsWith("/") ? "folder" : path.endsWith("@") ? "link" : "file")
  }
  const asked: Array<string> = []
  const plain = (path: string): string =>
    path
      .split("/")
      .filter((name) => name !== "" && name !== ".")
      .join("/")
  const missing = (path: string) => new FilesError({ reason: "NotFound", message: path })
  const below = (path: string): ReadonlyArray<string> =>
    [...kinds.keys()]
      .filter((each) => each !== "" && (path === "" || each.startsWith(`${path}/`)))
      .map((each) => (path === "" ? each : each.slice(path.length + 1)))
      .sort((a, b) => (a.replaceAll("/", "\0") < b.replaceAll("/", "\0") ? -1 : 1))
  const kindOf = (path: string): Kind => kinds.get(path) ?? "other"
  const within = (path: string, name: string): string => (path === "" ? name : `${path}/${name}`)
  const pages: FileWalk.Pages<FilesError> = {
    list: (path, cursor) =>
      Effect.suspend(() => {
        const at = plain(path)
        asked.push(`list ${at}`)
        if (kinds.get(at) !== "folder") return Effect.fail(missing(path))
        const names = below(at).filter((each) => !each.includes("/"))
        const page = slice(names, cursor, 2)
        return Effect.succeed(
          new Page({
            entries: page.names.map((name) => new Entry({ name, ...facts(kindOf(within(at, name))) })),
            unnamed: 1,
            ...(page.cursor === undefined ? {} : { cursor: page.cursor })
          })
        )
      }),
    walk: (path, cursor) =>
      Effect.suspend(() => {
        const at = plain(path)
        if (kinds.get(at) !== "folder") return Effect.fail(missing(path))
        const from = cursor === undefined ? 0 : Number(cursor)
        const all = below(at)
        return Effect.succeed(
          new Walk({
            entries: all
              .slice(from, from + 2)
              .map((each) => new Found({ path: each, ...facts(kindOf(within(at, each))) })),
            unnamed: 1,
            unread: [],
            ...(from + 2 < all.length ? { cursor: String(from + 2) } : {})
          })
        )
      }),
    stat: (path) =>
      Effect.suspend(() => {
        asked.push(`stat ${plain(path)}`)
        if (path.includes("\\")) return Effect.fail(new FilesError({ reason: "BadName", message: "refused" }))
        const kind = kinds.get(plain(path))
        return kind === undefined
          ? Effect.fail(missing(path))
          : Effect.succeed(new Stat({ path: `/${plain(path)}`, ...facts(kind) }))
      })
  }
  return { pages, asked }
}

const reason = Effect.fnUntraced(function* (effect: Effect.Effect<unknown, FilesError>) {
  const error = yield* Effect.flip(effect)
  return [error.reason, error.message]
})

describe("FileWalk", () => {
  it.effect("gathers all pages of a folder", () =>
    Effect.gen(function* () {
      const { pages } = store("e", "d/", "c", "b/x", "a")
      const { entries, unnamed } = yield* FileWalk.list(pages, "/")
      assert.deepStrictEqual([entries.map(({ name }) => name), unnamed], [["a", "b", "c", "d", "e"], 1])
    })
  )

  it.effect("a path that is there is taken as it is; a pattern finds the rest", () =>
    Effect.gen(function* () {
      const { pages } = store("a.txt", "b.txt", ".c.txt", "d/a.txt", "d/e/f.txt", "[x]", "x", "l@")
      const find = (text: string) => Effect.map(FileWalk.expand(pages, text), (all) => all.map(({ path }) => path))
      assert.deepStrictEqual(yield* find("*.txt"), ["/a.txt", "/b.txt"])
      assert.deepStrictEqual(yield* find("/**/*.txt"), ["/a.txt", "/b.txt", "/d/a.txt", "/d/e/f.txt"])
      assert.deepStrictEqual(yield* find("[x]"), ["/[x]"])
      assert.deepStrictEqual(yield* find("\\[x]"), ["/[x]"])
      assert.deepStrictEqual(yield* find("{d,nothing}/*"), ["/d/a.txt", "/d/e"])
      assert.deepStrictEqual(yield* find(""), ["/"])
      assert.deepStrictEqual(yield* find("l*"), ["/l@"])
      assert.deepStrictEqual(yield* reason(find("*.md")), ["NotFound", '"*.md": nothing matches'])
      assert.deepStrictEqual(yield* reason(find("y")), ["NotFound", "y"])
      assert.deepStrictEqual(yield* reason(find("*/../x")), ["BadName", 'this pattern is refused: ".." is not allowed'])
    })
  )

  it.effect("asks for no list that it does not need", () =>
    Effect.gen(function* () {
      const { asked, pages } = store("a/b/c.txt", "a/d/c.txt", "e/f/c.txt")
      yield* FileWalk.expand(pages, "a/*/c.txt")
      assert.deepStrictEqual(asked, ["stat a/*/c.txt", "stat a", "list a", "stat a/b/c.txt", "stat a/d/c.txt"])
    })
  )

  it.effect("makes the items of a transfer, parents first, and tells what is left out", () =>
    Effect.gen(function* () {
      const { pages } = store("a/b/c", "a/d", "a/l@", "z")
      const left: Array<string> = []
      const items = yield* Stream.runCollect(
        FileWalk.below(pages, "/a", "to", (path, why) => {
          left.push(`${why} ${path}`)
        })
      )
      assert.deepStrictEqual(items, [
        { from: "/a/b", to: "to/b", kind: "folder" },
        { from: "/a/b/c", to: "to/b/c", kind: "file", size: 3, mtimeMs: 7, mode: 0o600 },
        { from: "/a/d", to: "to/d", kind: "file", size: 3, mtimeMs: 7, mode: 0o600 }
      ])
      assert.deepStrictEqual(left, ["unnamed /a", "unnamed /a", "link l@"])
      const whole = yield* Stream.runCollect(FileWalk.below(pages, "/", "", () => {}))
      assert.deepStrictEqual(
        whole.map(({ from, to }) => [from, to]),
        ["a", "a/b", "a/b/c", "a/d", "z"].map((path) => [`/${path}`, `/${path}`])
      )
    })
  )

  it.effect("what a pattern matched in folders that it matched too goes with them", () =>
    Effect.gen(function* () {
      const { pages } = store("a/b/c", "a/d", "a b", "ab/c", "e/f")
      const paths = Effect.fnUntraced(function* (pattern: string) {
        return FileWalk.topmost(yield* FileWalk.expand(pages, pattern)).map(({ path }) => path)
      })
      assert.deepStrictEqual(yield* paths("**"), ["/a", "/a b", "/ab", "/e"])
      assert.deepStrictEqual(yield* paths("**/[cd]"), ["/a/b/c", "/a/d", "/ab/c"])
      assert.deepStrictEqual(yield* paths("{a/b,a/b/c,e/f}"), ["/a/b", "/e/f"])
    })
  )

  it.effect("a server that lies about its lists is not believed", () =>
    Effect.gen(function* () {
      const found = (path: string) => ({ path, kind: "file" as const, size: 0, mtimeMs: 0, mode: 0 })
      const walks = (entries: ReadonlyArray<string>, cursor?: string): FileWalk.Pages<FilesError> => ({
        ...store().pages,
        walk: () =>
          Effect.succeed(
            new Walk({
              entries: entries.map((path) => new Found(found(path))),
              unnamed: 0,
              unread: [],
              ...(cursor === undefined ? {} : { cursor })
            })
          )
      })
      for (const path of ["../x", "/etc/passwd", "a/../../x", "a//b", "a\\b", "a/\u0000", ""]) {
        const items = Stream.runDrain(FileWalk.below(walks([path]), "/", "", () => {}))
        assert.deepStrictEqual((yield* reason(items))[0], "Io", path)
      }
      // Twice, backwards, for ever the same, and for ever nothing.
      for (const entries of [
        ["a", "a"],
        ["b", "a"]
      ]) {
        assert.strictEqual((yield* reason(FileWalk.tree(walks(entries), "/")))[0], "Io")
      }
      assert.strictEqual((yield* reason(FileWalk.tree(walks(["a"], "again"), "/")))[0], "Io")
      assert.strictEqual((yield* reason(FileWalk.tree(walks([], "again"), "/")))[0], "TooMany")
      const list: FileWalk.Pages<FilesError>["list"] = () =>
        Effect.succeed(new Page({ entries: [new Entry({ name: "a", ...facts("file") })], unnamed: 0, cursor: "a" }))
      assert.strictEqual((yield* reason(FileWalk.list({ ...store().pages, list }, "/")))[0], "Io")
    })
  )

  it.effect("a server that answers about another path than was asked for is not believed", () =>
    Effect.gen(function* () {
      const stat = (path: string): FileWalk.Pages<FilesError>["stat"] => {
        return () => Effect.succeed(new Stat({ path, ...facts("file") }))
      }
      // What it says would be the name on this host.
      for (const path of ["/.profile", "/../x", "/a/notes.txt", "notes.txt", ""]) {
        const told = FileWalk.expand({ ...store().pages, stat: stat(path) }, "notes.txt")
        assert.strictEqual((yield* reason(told))[0], "Io", path)
      }
      for (const text of ["notes.txt", "/notes.txt", "./notes.txt", "/notes.txt/"]) {
        const [match] = yield* FileWalk.expand({ ...store().pages, stat: stat("/notes.txt") }, text)
        assert.strictEqual(match?.path, "/notes.txt")
      }
    })
  )

  it.effect(
    "pages without an entry, names without number, paths without measure, folders without ground: all end",
    () =>
      Effect.gen(function* () {
        const entry = new Entry({ name: "a", ...facts("folder") })
        let pages = 0
        const list: FileWalk.Pages<FilesError>["list"] = () =>
          Effect.sync(() => new Page({ entries: pages++ === 0 ? [entry] : [], unnamed: 0, cursor: "a" }))
        assert.strictEqual((yield* reason(FileWalk.list({ ...store().pages, list }, "/")))[0], "Io")
        assert.isAtMost(pages, 2)

        const walk = (unnamed: number): FileWalk.Pages<FilesError>["walk"] => {
          return () => Effect.succeed(new Walk({ entries: [], unnamed, unread: [] }))
        }
        const left: Array<unknown> = []
        const many = { ...store().pages, walk: walk(Number.MAX_SAFE_INTEGER) }
        yield* Stream.runDrain(FileWalk.below(many, "/", "", (...all) => left.push(all)))
        assert.deepStrictEqual(left, [["/", "unnamed", Number.MAX_SAFE_INTEGER]])

        let page = 0
        const long: FileWalk.Pages<FilesError>["walk"] = () =>
          Effect.sync(() => {
            const start = String(page++).padStart(9, "0")
            const path = `${start}${`/${"n".repeat(255)}`.repeat(15)}`
            return { entries: [{ path, ...facts("folder") }], unnamed: 0, unread: [], cursor: "c" }
          })
        assert.strictEqual((yield* reason(FileWalk.tree({ ...store().pages, walk: long }, "/")))[0], "TooMany")
        assert.isBelow(page, 40_000)

        const deep: FileWalk.Pages<FilesError>["list"] = () =>
          Effect.succeed(new Page({ entries: [entry], unnamed: 0 }))
        const none: FileWalk.Pages<FilesError>["stat"] = (path) =>
          Effect.fail(new FilesError({ reason: "NotFound", message: path }))
        const found = FileWalk.expand({ ...store().pages, list: deep, stat: none }, "**/x")
        assert.strictEqual((yield* reason(found))[0], "NotFound")
      })
  )

  it.effect("a list without end ends", () =>
    Effect.gen(function* () {
      let page = 0
      const walk: FileWalk.Pages<FilesError>["walk"] = () =>
        Effect.sync(() => {
          const first = page++ * 1000
          const entries = Array.from({ length: 1000 }, (_, i) => ({
            path: String(first + i).padStart(9, "0"),
            ...facts("folder")
          }))
          return { entries, unnamed: 0, unread: [], cursor: String(page) }
        })
      let seen = 0
      const walked = FileWalk.walk({ ...store().pages, walk }, "/", (entries) =>
        Effect.sync(() => {
          seen += entries.length
        })
      )
      assert.strictEqual((yield* reason(walked))[0], "TooMany")
      assert.strictEqual(seen, FileWalk.MAX_TREE)
    })
  )
})
