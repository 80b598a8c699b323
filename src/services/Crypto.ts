/** The host's cryptography: the protocol's primitives, unpredictable bytes, and key derivation for files. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { Entropy, KeyPair, Primitives } from "../domain/protocol/Primitives.ts"
import type { StunPrimitives } from "../domain/protocol/StunMessage.ts"

/** PBKDF2-HMAC-SHA256, RFC 8018. */
export interface Pbkdf2 {
  readonly name: "pbkdf2-hmac-sha256"
  readonly iterations: number
}

/** Argon2id, RFC 9106; memory in KiB. */
export interface Argon2id {
  readonly name: "argon2id"
  readonly memoryKib: number
  readonly passes: number
  readonly parallelism: number
}

export type FileKdf = Pbkdf2 | Argon2id

export class Crypto extends Context.Service<
  Crypto,
  {
    /** What packets are sealed with, for `doctor`: "node:crypto", or what is faster. */
    readonly implementation: string
    readonly primitives: Primitives
    /** What STUN and TURN are made of, and nothing else. */
    readonly stun: StunPrimitives
    readonly entropy: Entropy
    /** A fresh X25519 key pair. */
    readonly generateKeyPair: () => KeyPair
    /** 32 bytes from a password or key; runs off the event loop. Parameters are the caller's to bound. */
    readonly deriveFileKey: (secret: Uint8Array, salt: Uint8Array, kdf: FileKdf) => Effect.Effect<Uint8Array>
  }
>()("clawchat/services/Crypto") {}
