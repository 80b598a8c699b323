/** The hashes of STUN (RFC 8489) on node:crypto. */
import * as crypto from "node:crypto"
import type { StunPrimitives } from "../domain/protocol/StunMessage.ts"

const plain = (buffer: Buffer): Uint8Array => new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)

const hmac =
  (algorithm: string) =>
  (key: Uint8Array, ...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
    const mac = crypto.createHmac(algorithm, key)
    for (const part of parts) mac.update(part)
    return plain(mac.digest())
  }

const hash =
  (algorithm: string) =>
  (...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
    const state = crypto.createHash(algorithm)
    for (const part of parts) state.update(part)
    return plain(state.digest())
  }

export const stunPrimitives: StunPrimitives = {
  hmacSha1: hmac("sha1"),
  hmacSha256: hmac("sha256"),
  md5: hash("md5"),
  sha256: hash("sha256"),
  equal: (a, b) => a.length === b.length && crypto.timingSafeEqual(a, b)
}
