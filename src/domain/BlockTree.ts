/**
 * The hash of a file by blocks: a Merkle tree of the shape of RFC 6962 section 2.1, with SHA-256. A leaf is the hash of
 * one block and nothing else; a node is H(0x01 ‖ left ‖ right); the root is H(0x02 ‖ bytes in the file, 8 ‖ topmost node), so
 * that the shape of the tree is part of it. It grows at its right edge only: to go on after any number of blocks takes one
 * hash for each 1 bit of that number (the frontier, at most 1.2 KiB), and who resumes a file reads nothing again.
 */
import { Reader, varintLength, Writer } from "./protocol/Cursor.ts"
import { HASH_LENGTH, type Primitives } from "./protocol/Primitives.ts"
import { BLOCK_LENGTH } from "./RemoteFile.ts"

/** Bytes that the state of a tree takes at most: 2^35 blocks are 2^53 bytes. */
export const MAX_STATE_LENGTH = 8 + 35 * HASH_LENGTH

type Hash = Primitives["hash"]

const NODE = Uint8Array.of(1)
const ROOT = 2

/** Bits of a count of blocks that are set, which may be above 2^32. */
const ones = (count: number): number => {
  let bits = 0
  for (let rest = count; rest > 0; rest = Math.floor(rest / 2)) bits += rest % 2
  return bits
}

export class BlockTree {
  readonly #hash: Hash
  /** Roots of the complete subtrees, the largest first. */
  readonly #frontier: Array<Uint8Array>
  #blocks: number
  #length: number
  /** The last block was a short one: nothing can follow it. */
  #ended = false

  constructor(hash: Hash, frontier: ReadonlyArray<Uint8Array> = [], blocks = 0) {
    this.#hash = hash
    this.#frontier = [...frontier]
    this.#blocks = blocks
    this.#length = blocks * BLOCK_LENGTH
  }

  /** Bytes in it. */
  get length(): number {
    return this.#length
  }

  /** Takes in the next block's hash and length; false where no block of this length can come. */
  push(hash: Uint8Array, length: number): boolean {
    if (this.#ended || length < 1 || length > BLOCK_LENGTH) return false
    this.#ended = length < BLOCK_LENGTH
    let node = hash
    for (let count = this.#blocks; count % 2 === 1; count = Math.floor(count / 2)) {
      node = this.#hash(NODE, this.#frontier.pop() ?? node, node)
    }
    this.#frontier.push(node)
    this.#blocks++
    this.#length += length
    return true
  }

  /** The hash of all blocks so far. */
  root(): Uint8Array {
    let root: Uint8Array | undefined
    for (let i = this.#frontier.length - 1; i >= 0; i--) {
      const node = this.#frontier[i] as Uint8Array
      root = root === undefined ? node : this.#hash(NODE, node, root)
    }
    const head = new Writer(new Uint8Array(9)).u8(ROOT).u64(this.#length).bytes
    return root === undefined ? this.#hash(head) : this.#hash(head, root)
  }

  /** What `resume` takes; only while every block is a whole one, else `undefined`. */
  state(): Uint8Array | undefined {
    if (this.#ended) return undefined
    const out = new Uint8Array(varintLength(this.#blocks) + this.#frontier.length * HASH_LENGTH)
    const writer = new Writer(out).varint(this.#blocks)
    for (const node of this.#frontier) writer.put(node)
    return out
  }
}

/** A tree that goes on from a state, or `undefined` where the bytes are none. No bytes are the empty tree. */
export const resume = (hash: Hash, state: Uint8Array): BlockTree | undefined => {
  if (state.length === 0) return new BlockTree(hash)
  const reader = new Reader(state)
  const blocks = reader.varint()
  if (reader.failed || blocks > Number.MAX_SAFE_INTEGER / BLOCK_LENGTH) return undefined
  const frontier = Array.from({ length: ones(blocks) }, () => reader.copy(HASH_LENGTH))
  return reader.done ? new BlockTree(hash, frontier, blocks) : undefined
}
