import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as FastCheck from "fast-check"
import * as Glob from "../../src/domain/Glob.ts"

const names = (path: string): ReadonlyArray<string> => path.split("/").filter((name) => name !== "")
const glob = (pattern: string): Glob.Glob => Result.getOrThrow(Glob.parse(pattern))
const matches = (pattern: string, path: string): boolean => glob(pattern).matches(names(path))

describe("Glob", () => {
  it("matches as shells do", () => {
    for (const [pattern, path, expected] of [
      ["*", "a", true],
      ["*", "", false],
      ["*", ".a", false],
      [".*", ".a", true],
      ["?a", ".a", false],
      ["[.]a", ".a", false],
      ["*", "a/b", false],
      ["a/*", "a/b", true],
      ["/a//./b/", "a/b", true],
      ["*.txt", "a.txt", true],
      ["*.txt", "a.txt.gz", false],
      ["a*b*c", "axxbxxc", true],
      ["a*b*c", "axxcxxb", false],
      ["?", "\u{1f980}", true],
      ["??", "\u{1f980}", false],
      ["[a-c]x", "bx", true],
      ["[!a-c]x", "bx", false],
      ["[^a-c]x", "dx", true],
      ["[]]", "]", true],
      ["[a-]", "-", true],
      ["[abc", "[abc", true],
      ["\\*", "*", true],
      ["\\*", "a", false],
      ["[\\]]", "]", true],
      ["**", "a/b/c", true],
      ["**", ".a", false],
      ["**/c", "c", true],
      ["**/c", "a/b/c", true],
      ["**/c", "a/.b/c", false],
      ["a/**/c", "a/c", true],
      ["a/**/**/c", "a/b/b/c", true],
      ["a/**", "a", true],
      ["a**c", "abc", true],
      ["{a,b}.ts", "b.ts", true],
      ["{a,b{c,d}}e", "bde", true],
      ["{a,b/c}", "b/c", true],
      ["{,x}a", "a", true],
      ["{a}", "{a}", true],
      ["{a,b", "{a,b", true],
      ["\\{a,b}", "{a,b}", true],
      ["caf\u00e9*", "cafe\u0301s", true],
      ["\u05e9\u05dc*", "\u05e9\u05dc\u05d5\u05dd", true]
    ] as const) {
      assert.strictEqual(matches(pattern, path), expected, `${pattern} on ${path}`)
    }
  })

  it("refuses with a sentence what it cannot mean", () => {
    for (const [pattern, fault] of [
      ["../a", '".." is not allowed'],
      ["{a,..}/b", '".." is not allowed'],
      ["a\\", "a backslash ends the pattern"],
      ["x".repeat(4097), "the pattern is longer than 4096 characters"],
      ["{a,b}".repeat(9), "the braces of the pattern stand for more than 256 paths"],
      [`${"{a,".repeat(400)}b${"}".repeat(400)}`, "the braces of the pattern stand for more than 256 paths"]
    ] as const) {
      const parsed = Glob.parse(pattern)
      assert.strictEqual(Result.isFailure(parsed) ? parsed.failure : "", fault)
    }
  })

  it("walks: knows where nothing can match, and which names alone can", () => {
    const pattern = glob("src/*/{a,b}.ts")
    assert.deepStrictEqual(pattern.literals(pattern.start), ["src"])
    const inside = pattern.step(pattern.start, "src")
    assert.isUndefined(pattern.literals(inside))
    assert.isTrue(pattern.isDead(pattern.step(pattern.start, "lib")))
    const file = pattern.step(pattern.step(inside, "x"), "a.ts")
    assert.isTrue(pattern.isFinal(file) && pattern.isDead(file))
    const deep = glob("a/**")
    const a = deep.step(deep.start, "a")
    assert.isTrue(deep.isFinal(a) && !deep.isDead(a))
    // On disk the name may be written in the other form.
    assert.isUndefined(glob("caf\u00e9").literals(glob("caf\u00e9").start))
  })

  it("agrees with a regular expression", () => {
    const part = FastCheck.array(FastCheck.constantFrom("*", "?", "a", "b", "[ab]", "[!a]"), {
      minLength: 1,
      maxLength: 7
    })
    const name = FastCheck.string({ unit: FastCheck.constantFrom("a", "b", "c"), minLength: 1, maxLength: 9 })
    FastCheck.assert(
      FastCheck.property(part, name, (tokens, text) => {
        if (tokens.join("").includes("**") && new Set(tokens).size === 1) return
        const forms: Readonly<Record<string, string>> = { "*": ".*", "?": ".", "[!a]": "[^a]" }
        const source = tokens.map((token) => forms[token] ?? token).join("")
        assert.strictEqual(matches(tokens.join(""), text), new RegExp(`^${source}$`).test(text), tokens.join(""))
      }),
      { seed: 1, numRuns: 2000 }
    )
  })

  it("escaped, every name matches itself alone", () => {
    const name = FastCheck.string({ unit: FastCheck.constantFrom(..."ab*?[]{},!-^\\."), minLength: 1, maxLength: 8 })
    FastCheck.assert(
      FastCheck.property(name, name, (one, other) => {
        if (one === "." || one === ".." || other.includes("/")) return
        assert.isTrue(glob(Glob.escape(one)).matches([one]), one)
        assert.strictEqual(glob(Glob.escape(one)).matches([other]), one === other)
      }),
      { seed: 2, numRuns: 2000 }
    )
  })

  it("a pattern made to be slow is not", () => {
    const pattern = glob(`${"a*".repeat(100)}b`)
    let steps = 0
    const path = "a".repeat(255)
    for (let i = 0; i < 50; i++) if (!pattern.matches([path])) steps++
    assert.strictEqual(steps, 50)
    const deep = glob(`${"**/a/".repeat(200)}b`)
    assert.isFalse(deep.matches(Array.from({ length: 256 }, () => "a")))
  })
})
