import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as BlockTree from "../../src/domain/BlockTree.ts"
import { concat, hex } from "../../src/domain/protocol/Cursor.ts"
import { BLOCK_LENGTH } from "../../src/domain/RemoteFile.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"

const { hash } = primitives

const sha = (...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const it = createHash("sha256")
  for (const part of parts) it.update(part)
  return new Uint8Array(it.digest())
}

/** The definition, word for word: RFC 6962 section 2.1 splits at the largest power of two below n. */
const reference = (leaves: ReadonlyArray<Uint8Array>, length: number): Uint8Array => {
  const top = (some: ReadonlyArray<Uint8Array>): Uint8Array => {
    if (some.length === 1) return some[0] as Uint8Array
    let k = 1
    while (k * 2 < some.length) k *= 2
    return sha(Uint8Array.of(1), top(some.slice(0, k)), top(some.slice(k)))
  }
  const head = new Uint8Array(9)
  head[0] = 2
  new DataView(head.buffer).setBigUint64(1, BigInt(length))
  return leaves.length === 0 ? sha(head) : sha(head, top(leaves))
}

const leafOf = (index: number): Uint8Array => sha(Uint8Array.of(index & 0xff, index >> 8))

const treeOf = (count: number, last = BLOCK_LENGTH): BlockTree.BlockTree => {
  const tree = new BlockTree.BlockTree(hash)
  for (let i = 0; i < count; i++) assert.isTrue(tree.push(leafOf(i), i === count - 1 ? last : BLOCK_LENGTH))
  return tree
}

describe("BlockTree", () => {
  it("is the tree of the definition, for every number of blocks", () => {
    for (let count = 0; count < 70; count++) {
      const leaves = Array.from({ length: count }, (_, i) => leafOf(i))
      assert.deepStrictEqual(treeOf(count).root(), reference(leaves, count * BLOCK_LENGTH), String(count))
      if (count > 0) assert.deepStrictEqual(treeOf(count, 5).root(), reference(leaves, (count - 1) * BLOCK_LENGTH + 5))
    }
  })

  it("has roots of record", () => {
    assert.strictEqual(hex(treeOf(0).root()), hex(sha(Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0))))
    assert.strictEqual(hex(treeOf(1, 1).root()), hex(sha(Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 1), leafOf(0))))
  })

  it("goes on from its state after any block, and the state stays small", () => {
    const whole = treeOf(67, 9).root()
    for (let at = 0; at < 67; at++) {
      const state = treeOf(at).state()
      assert.isDefined(state)
      const tree = BlockTree.resume(hash, state ?? new Uint8Array(1))
      assert.strictEqual(tree?.length, at * BLOCK_LENGTH)
      for (let i = at; i < 67; i++) assert.isTrue(tree?.push(leafOf(i), i === 66 ? 9 : BLOCK_LENGTH))
      assert.deepStrictEqual(tree?.root(), whole)
      assert.isAtMost(state?.length ?? 0, 1 + 7 * 32)
    }
    assert.strictEqual(BlockTree.resume(hash, new Uint8Array(0))?.length, 0)
  })

  it("takes nothing after a short block, and no block that is none", () => {
    const tree = treeOf(2, 7)
    assert.isFalse(tree.push(leafOf(3), 1))
    assert.isUndefined(tree.state())
    for (const length of [0, -1, BLOCK_LENGTH + 1])
      assert.isFalse(new BlockTree.BlockTree(hash).push(leafOf(0), length))
  })

  it("refuses states that no tree has", () => {
    const state = treeOf(3).state() ?? new Uint8Array(0)
    assert.isUndefined(BlockTree.resume(hash, state.subarray(0, -1)))
    assert.isUndefined(BlockTree.resume(hash, concat(state, Uint8Array.of(0))))
    assert.isUndefined(BlockTree.resume(hash, Uint8Array.of(0x80, 1)))
    assert.isUndefined(BlockTree.resume(hash, new Uint8Array(8).fill(0xff)))
  })
})
