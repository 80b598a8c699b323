import * as Fs from "node:fs"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as FastCheck from "fast-check"
import * as RemotePath from "../../src/domain/RemotePath.ts"

/** The parsed components, or the fault. */
const parse = (path: string): ReadonlyArray<string> | RemotePath.Fault =>
  Result.match(RemotePath.parse(path), {
    onSuccess: (path): ReadonlyArray<string> | RemotePath.Fault => path,
    onFailure: (fault) => fault
  })

describe("RemotePath", () => {
  const cases: ReadonlyArray<readonly [path: string, parsed: ReadonlyArray<string> | RemotePath.Fault]> = [
    ["", []],
    ["/", []],
    [".", []],
    ["./", []],
    ["a", ["a"]],
    ["/a/b", ["a", "b"]],
    ["//a///b/", ["a", "b"]],
    ["./a/./b/.", ["a", "b"]],
    ["/etc/passwd", ["etc", "passwd"]],
    ["..", "Parent"],
    ["a/..", "Parent"],
    ["a/../../b", "Parent"],
    ["...", ["..."]],
    ["..a", ["..a"]],
    [".hidden", [".hidden"]],
    ["a\u0000", "Control"],
    ["a\nb", "Control"],
    ["a\u007f", "Control"],
    ["a\u0085", "Control"],
    ["a\u2028b", "Control"],
    ["..\\a", "Backslash"],
    ["C:\\a", "Backslash"],
    ["C:a", ["C:a"]],
    ["s\ud800", "Unicode"],
    ["%2e%2e/a", ["%2e%2e", "a"]],
    ["..%2fa", ["..%2fa"]],
    ["\uff0e\uff0e/a", ["\uff0e\uff0e", "a"]],
    ["\u2025/a", ["\u2025", "a"]],
    ["e\u0301", ["e\u0301"]],
    ["\u00e9", ["\u00e9"]],
    ["~/a", ["~", "a"]],
    ["$HOME", ["$HOME"]],
    ["-rf", ["-rf"]],
    ["x".repeat(255), ["x".repeat(255)]],
    ["x".repeat(256), "TooLong"],
    ["\u00e9".repeat(128), "TooLong"],
    ["a/".repeat(2048), Array.from({ length: 2048 }, () => "a")],
    [`${"a/".repeat(2048)}b`, "TooLong"],
    ["\u00e9/".repeat(1366), "TooLong"]
  ]
  for (const [path, parsed] of cases)
    it(`${JSON.stringify(path).slice(0, 40)} (${path.length})`, () => assert.deepStrictEqual(parse(path), parsed))

  it("what passes is made of names only, and reads back the same", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.array(
          FastCheck.oneof(
            FastCheck.constantFrom("/", ".", "..", "\\", "a", "\u0000", "\ud800"),
            FastCheck.string({ unit: "binary" })
          )
        ),
        (parts) => {
          const parsed = parse(parts.join(""))
          if (typeof parsed === "string") return
          for (const name of parsed) assert.isTrue(RemotePath.isName(name))
          assert.deepStrictEqual(parse(RemotePath.format(parsed)), parsed)
        }
      ),
      { seed: 28, numRuns: 2000 }
    )
  })

  it("a listed name is one component", () => {
    for (const name of ["a", "...", "a b", "-rf"]) assert.isTrue(RemotePath.isName(name))
    for (const name of ["", ".", "..", "a/b", "/", "a\\b", "a\u0000", "\ud800", "x".repeat(256)])
      assert.isFalse(RemotePath.isName(name))
  })

  it("knows what Windows would take for something else", () => {
    for (const name of ["a", "con-", "console", "com10", "a.b", ".a"]) assert.isTrue(RemotePath.isPortable(name))
    for (const name of [
      "con",
      "CON",
      "aux.txt",
      "nul .x",
      "com1",
      "LPT9.log",
      "com\u00b9",
      "a.",
      "a ",
      "a:b",
      "a*",
      "conin$"
    ])
      assert.isFalse(RemotePath.isPortable(name))
  })
})

const vectors = Path.resolve(import.meta.dirname, "../../../shared/vectors")
const present = Fs.existsSync(Path.join(vectors, "path-traversal"))

describe.skipIf(!present)(`RemotePath: vectors${present ? "" : " (skipped: ../shared/vectors is not here)"}`, () => {
  it("expected outcomes", () => {
    const { cases }: { cases: ReadonlyArray<{ path: string; expect: string }> } = JSON.parse(
      Fs.readFileSync(Path.join(vectors, "path-traversal/paths_expected.json"), "utf8")
    )
    assert.isAbove(cases.length, 60)
    for (const { path, expect } of cases) {
      const parsed = parse(path)
      if (/^escape$|^refuse \(NUL\)|^lone surrogate|^(ENAMETOOLONG|PATH_MAX) -> clean error|^256 bytes/.test(expect))
        assert.isString(parsed, path)
      if (/^(root|refuse or root)/.test(expect)) assert.isTrue(parsed === "Parent" || parsed.length === 0, path)
      // Taken as it stands: nothing decoded, folded or expanded.
      if (/^literal|^255 bytes ok/.test(expect) && typeof parsed !== "string")
        assert.strictEqual(parsed.join("/"), path)
    }
  })

  it("no line of the traversal lists leaves a component that leads up or aside", () => {
    let lines = 0
    for (const file of Fs.readdirSync(Path.join(vectors, "path-traversal")).filter((name) => name.endsWith(".txt")))
      for (const line of Fs.readFileSync(Path.join(vectors, "path-traversal", file), "utf8").split("\n")) {
        const parsed = parse(line)
        lines++
        if (typeof parsed !== "string") for (const name of parsed) assert.isTrue(RemotePath.isName(name))
      }
    assert.isAbove(lines, 1000)
  })

  it("naughty strings", () => {
    const strings: ReadonlyArray<string> = JSON.parse(Fs.readFileSync(Path.join(vectors, "strings/blns.json"), "utf8"))
    for (const text of strings) {
      const parsed = parse(text)
      if (typeof parsed !== "string") assert.deepStrictEqual(parse(RemotePath.format(parsed)), parsed)
    }
    assert.isAbove(strings.length, 400)
  })
})
