import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "fast-check"
import * as SyncPlan from "../../src/domain/SyncPlan.ts"

const file = (size = 1, mtimeMs = 5): SyncPlan.Node => ({ kind: "file", size, mtimeMs })
const folder: SyncPlan.Node = { kind: "folder", size: 0, mtimeMs: 9 }
const link: SyncPlan.Node = { kind: "link", size: 0, mtimeMs: 9 }
const tree = (nodes: Readonly<Record<string, SyncPlan.Node>>): SyncPlan.Tree => new Map(Object.entries(nodes))
const plain = { delete: false, checksum: false }
const empty = { cleared: [], folders: [], files: [], removed: [], equal: 0, left: [], blocked: [] }

describe("SyncPlan", () => {
  it("makes what is missing, parents first, and what differs", () => {
    const source = tree({ "a/b/c": file(), "a/b": folder, a: folder, same: file(), longer: file(2), later: file(1, 6) })
    const target = tree({ same: file(), longer: file(), later: file(), extra: file() })
    assert.deepStrictEqual(SyncPlan.make(source, target, plain), {
      ...empty,
      folders: ["a", "a/b"],
      files: [
        { path: "a/b/c", size: 1, isNew: true },
        { path: "later", size: 1, isNew: false },
        { path: "longer", size: 2, isNew: false }
      ],
      equal: 1
    })
  })

  it("with checksum no time is trusted", () => {
    const { equal, files } = SyncPlan.make(tree({ a: file() }), tree({ a: file() }), { ...plain, checksum: true })
    assert.deepStrictEqual([files, equal], [[{ path: "a", size: 1, isNew: false }], 0])
  })

  it("brings the owner's right to execute over, where both sides can tell of it", () => {
    const modes = (from: number, to: number, ...others: ReadonlyArray<number>) => {
      const [one, other] = [
        { ...file(), mode: from },
        { ...file(), mode: to }
      ]
      const target = { a: other, ...Object.fromEntries(others.map((mode, i) => [`b${i}`, { ...file(), mode }])) }
      const { equal, files } = SyncPlan.make(tree({ a: one }), tree(target), plain)
      assert.strictEqual(equal + files.length, 1)
      return files
    }
    assert.deepStrictEqual(modes(0o755, 0o644), [{ path: "a", size: 1, isNew: false, mode: 0o755 }])
    assert.deepStrictEqual(modes(0o644, 0o755, 0o600), [{ path: "a", size: 1, isNew: false, mode: 0o644 }])
    // The rest goes with it, and is no reason: masks differ.
    for (const [from, to] of [
      [0o644, 0o600],
      [0o755, 0o700],
      [0o777, 0o755]
    ] as const)
      assert.deepStrictEqual(modes(from, to), [])
    // A disk on which everything may be executed, or nothing: it would be tried again at each sync.
    assert.deepStrictEqual(modes(0o644, 0o755, 0o755), [])
    for (const [from, to] of [
      [0o755, 0o666],
      [0o755, 0o444],
      [0o666, 0o755],
      [0o444, 0o755]
    ] as const)
      assert.deepStrictEqual(modes(from, to, 0o600), [])
    assert.deepStrictEqual(SyncPlan.make(tree({ a: file() }), tree({ a: { ...file(), mode: 0o755 } }), plain).files, [])
  })

  it("removes with delete only, a folder as one", () => {
    const source = tree({ keep: file() })
    const target = tree({ keep: file(), old: folder, "old/a": file(), "old/b/c": file(), "old.txt": file() })
    assert.deepStrictEqual(SyncPlan.make(source, target, plain).removed, [])
    assert.deepStrictEqual(SyncPlan.make(source, target, { ...plain, delete: true }).removed, ["old", "old.txt"])
  })

  it("what is of another kind blocks all below it, until delete clears it away", () => {
    const source = tree({ a: folder, "a/b": file(), c: file() })
    const target = tree({ a: file(), c: folder, "c/d": file() })
    assert.deepStrictEqual(SyncPlan.make(source, target, plain), { ...empty, blocked: ["a", "c"] })
    assert.deepStrictEqual(SyncPlan.make(source, target, { ...plain, delete: true }), {
      ...empty,
      cleared: ["a", "c"],
      folders: ["a"],
      files: [
        { path: "a/b", size: 1, isNew: true },
        { path: "c", size: 1, isNew: true }
      ]
    })
  })

  it("leaves links alone, and what stands at their places", () => {
    const source = tree({ l: link })
    const target = tree({ l: folder, "l/x": file() })
    assert.deepStrictEqual(SyncPlan.make(source, target, { ...plain, delete: true }), { ...empty, left: ["l"] })
  })

  it("knows file systems that keep whole seconds only", () => {
    assert.isTrue(SyncPlan.isSameTime(1000, 1999))
    assert.isFalse(SyncPlan.isSameTime(1001, 1999))
    assert.isFalse(SyncPlan.isSameTime(1000, 2000))
  })

  it("takes times before 1970 for what becomes of them on the way", () => {
    assert.isTrue(SyncPlan.isSameTime(-2_147_483_648_000, 0))
    assert.isFalse(SyncPlan.isSameTime(-5, 1001))
  })

  it("carried out, makes the trees equal", () => {
    const names = FastCheck.array(FastCheck.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 3 })
    const leaves = FastCheck.array(FastCheck.tuple(names, FastCheck.nat(2)), { maxLength: 8 })
    const build = (all: ReadonlyArray<readonly [ReadonlyArray<string>, number]>): Map<string, SyncPlan.Node> => {
      const nodes = new Map<string, SyncPlan.Node>()
      for (const [path, size] of all) {
        const whole = path.join("/")
        const above = path.slice(1).map((_, index) => path.slice(0, index + 1).join("/"))
        if (nodes.has(whole) || above.some((each) => nodes.get(each)?.kind === "file")) continue
        for (const each of above) nodes.set(each, folder)
        nodes.set(whole, size === 0 ? folder : file(size))
      }
      return nodes
    }
    const remove = (nodes: Map<string, SyncPlan.Node>, path: string): void => {
      assert.isTrue(nodes.has(path))
      for (const each of [...nodes.keys()]) if (each === path || each.startsWith(`${path}/`)) nodes.delete(each)
    }
    FastCheck.assert(
      FastCheck.property(leaves, leaves, (from, to) => {
        const source = build(from)
        const target = build(to)
        const plan = SyncPlan.make(source, target, { delete: true, checksum: false })
        for (const path of plan.cleared) remove(target, path)
        for (const path of [...plan.folders, ...plan.files.map((each) => each.path)]) {
          const above = path.lastIndexOf("/")
          if (above > 0) assert.strictEqual(target.get(path.slice(0, above))?.kind, "folder", path)
          const node = source.get(path)
          if (node !== undefined) target.set(path, node)
        }
        for (const path of plan.removed) remove(target, path)
        assert.deepStrictEqual([...target].sort(), [...source].sort())
      }),
      { seed: 1, numRuns: 2000 }
    )
  })
})
