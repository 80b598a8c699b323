/** Watches what a world seals: no nonce may come twice under one key, whichever process has it. */
import type { Primitives } from "../../src/domain/protocol/Primitives.ts"

const hex = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1")

export class Nonces {
  /** Tiers that used one twice. */
  readonly repeated: Array<string> = []
  sealed = 0
  readonly #used = new Map<string, Set<string>>()

  readonly watch = (tier: string, primitives: Primitives): Primitives => ({
    ...primitives,
    packetKey: (key) => {
      const inner = primitives.packetKey(key)
      const used = this.#of(key)
      return {
        seal: (nonce, buffer, start, end) => {
          this.#note(tier, used, nonce)
          inner.seal(nonce, buffer, start, end)
        },
        open: inner.open,
        wipe: inner.wipe
      }
    },
    aeadKey: (key) => {
      const inner = primitives.aeadKey(key)
      const used = this.#of(key)
      return {
        sealInto: (nonce, aad, plaintext, out, offset) => {
          this.#note(tier, used, nonce)
          inner.sealInto(nonce, aad, plaintext, out, offset)
        },
        open: inner.open
      }
    }
  })

  #of(key: Uint8Array): Set<string> {
    const name = hex(key)
    const used = this.#used.get(name) ?? new Set()
    this.#used.set(name, used)
    return used
  }

  #note(tier: string, used: Set<string>, nonce: Uint8Array): void {
    this.sealed++
    const name = hex(nonce)
    if (used.has(name)) this.repeated.push(tier)
    used.add(name)
  }
}
