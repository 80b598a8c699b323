/** Packets one at a time, in buffers of their own: for tests, which keep what they make. */
import * as Packet from "../../src/domain/protocol/Packet.ts"
import { type MaskKey, TAG_LENGTH } from "../../src/domain/protocol/Primitives.ts"

export class Sealer {
  readonly #sealer: Packet.Sealer

  constructor(header: MaskKey) {
    this.#sealer = new Packet.Sealer(header)
  }

  seal(
    keys: Packet.DirectionKeys,
    epoch: number,
    connectionId: Uint8Array,
    packetNumber: number,
    plaintext: Uint8Array
  ): Uint8Array {
    const datagram = new Uint8Array(plaintext.length + Packet.OVERHEAD)
    datagram.set(plaintext, Packet.OVERHEAD - TAG_LENGTH)
    this.#sealer.seal(keys, epoch, connectionId, packetNumber, datagram, 0, datagram.length)
    this.#sealer.mask()
    return datagram
  }
}

/** Leaves the datagrams it is given as they were. */
export class Opener {
  readonly #opener: Packet.Opener
  #given: Uint8Array | undefined
  #copy = new Uint8Array(0)

  constructor(header: MaskKey) {
    this.#opener = new Packet.Opener(header)
  }

  get epochBits(): number {
    return this.#opener.epochBits
  }

  get packetNumber(): number {
    return this.#opener.packetNumber
  }

  header(datagram: Uint8Array): Packet.Header | undefined {
    this.#given = datagram
    this.#copy = Uint8Array.from(datagram)
    this.#opener.prepare([{ bytes: this.#copy }], 0, 1)
    const header = this.#opener.header(this.#copy, 0)
    if (header === undefined) this.#given = undefined
    return header
  }

  open(keys: Packet.DirectionKeys, datagram: Uint8Array): Uint8Array | undefined {
    if (this.#given !== datagram && this.header(datagram) === undefined) return undefined
    this.#given = undefined
    if (!this.#opener.open(keys, this.#copy)) return undefined
    return this.#copy.slice(Packet.OVERHEAD - TAG_LENGTH, -TAG_LENGTH)
  }
}
