/**
 * Crypto on Node's own OpenSSL, synchronous on the packet path.
 *
 * Everything handed out is a plain `Uint8Array` and never a `Buffer`, whose `slice` is a view: whoever copies a
 * plaintext gets a copy. Symmetric keys become KeyObjects once, for a raw key costs its set-up again in every packet.
 */
import * as crypto from "node:crypto"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { concat } from "../domain/protocol/Cursor.ts"
import {
  type AeadKey,
  type Entropy,
  KEY_LENGTH,
  type KeyPair,
  type MaskKey,
  NONCE_LENGTH,
  type PacketKey,
  type Primitives,
  TAG_LENGTH
} from "../domain/protocol/Primitives.ts"
import { Crypto, type FileKdf } from "../services/Crypto.ts"
import { stunPrimitives } from "./StunPrimitivesNode.ts"

const AEAD = "aes-256-gcm"
/** Without it Node takes tags of 4 bytes for good. */
const AEAD_OPTIONS: crypto.CipherGCMOptions = { authTagLength: TAG_LENGTH }

/** RFC 8410: what stands before the 32 raw bytes of an X25519 key in PKCS #8 and in SubjectPublicKeyInfo. */
const PKCS8_PREFIX = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20)
const SPKI_PREFIX = Uint8Array.of(0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 3, 0x21, 0)

const plain = (buffer: Uint8Array): Uint8Array => new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)

const secretKey = (key: Uint8Array): crypto.KeyObject => {
  if (key.length !== KEY_LENGTH) throw new RangeError(`a key of ${key.length} bytes`)
  return crypto.createSecretKey(key)
}

const checkNonce = (nonce: Uint8Array): void => {
  if (nonce.length !== NONCE_LENGTH) throw new RangeError(`a nonce of ${nonce.length} bytes`)
}

const aeadKey = (key: Uint8Array): AeadKey => {
  const secret = secretKey(key)
  return {
    sealInto: (nonce, aad, plaintext, out, offset) => {
      checkNonce(nonce)
      const cipher = crypto.createCipheriv(AEAD, secret, nonce, AEAD_OPTIONS)
      cipher.setAAD(aad)
      out.set(cipher.update(plaintext), offset)
      cipher.final()
      out.set(cipher.getAuthTag(), offset + plaintext.length)
    },
    open: (nonce, aad, sealed) => {
      checkNonce(nonce)
      const end = sealed.length - TAG_LENGTH
      if (end < 0) return undefined
      const decipher = crypto.createDecipheriv(AEAD, secret, nonce, AEAD_OPTIONS)
      decipher.setAAD(aad)
      decipher.setAuthTag(sealed.subarray(end))
      const plaintext = decipher.update(sealed.subarray(0, end))
      try {
        decipher.final()
      } catch {
        return undefined
      }
      return plain(plaintext)
    }
  }
}

/** What stands before the text of a transport packet, and what is authenticated with it. */
const HEADER_LENGTH = 16

const packetKey = (key: Uint8Array): PacketKey => {
  let secret: crypto.KeyObject | undefined = secretKey(key)
  const live = (): crypto.KeyObject => {
    if (secret === undefined) throw new Error("this key was wiped")
    return secret
  }
  return {
    seal: (nonce, buffer, start, end) => {
      const cipher = crypto.createCipheriv(AEAD, live(), nonce, AEAD_OPTIONS)
      const text = start + HEADER_LENGTH
      const tag = end - TAG_LENGTH
      cipher.setAAD(buffer.subarray(start, text))
      buffer.set(cipher.update(buffer.subarray(text, tag)), text)
      cipher.final()
      buffer.set(cipher.getAuthTag(), tag)
    },
    open: (nonce, buffer, start, end) => {
      const decipher = crypto.createDecipheriv(AEAD, live(), nonce, AEAD_OPTIONS)
      const text = start + HEADER_LENGTH
      const tag = end - TAG_LENGTH
      decipher.setAAD(buffer.subarray(start, text))
      decipher.setAuthTag(buffer.subarray(tag, end))
      buffer.set(decipher.update(buffer.subarray(text, tag)), text)
      try {
        decipher.final()
        return true
      } catch {
        return false
      }
    },
    wipe: () => {
      secret = undefined
    }
  }
}

const BLOCK_LENGTH = 16

const maskKey = (key: Uint8Array): MaskKey => {
  // ECB without padding carries nothing from one block to the next, so one cipher serves every packet.
  let cipher: crypto.Cipheriv | undefined = crypto.createCipheriv("aes-256-ecb", secretKey(key), null)
  cipher.setAutoPadding(false)
  return {
    mask: (samples, count) => {
      if (cipher === undefined) throw new Error("this key was wiped")
      const length = count * BLOCK_LENGTH
      if (samples.length < length) throw new RangeError(`${count} samples in ${samples.length} bytes`)
      return plain(cipher.update(samples.subarray(0, length)))
    },
    wipe: () => {
      cipher = undefined
    }
  }
}

const view = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)

/** X25519 keys from their 32 bytes. */
export interface Import {
  readonly privateKey: (bytes: Uint8Array) => crypto.KeyObject
  readonly publicKey: (bytes: Uint8Array) => crypto.KeyObject
}

/** As they are: Node 24.15 and later. In a process that has used no key yet a handshake's keys cost a third less. */
export const rawImport: Import = {
  privateKey: (bytes) =>
    crypto.createPrivateKey({ key: view(bytes), format: "raw-private", asymmetricKeyType: "x25519" }),
  publicKey: (bytes) => crypto.createPublicKey({ key: view(bytes), format: "raw-public", asymmetricKeyType: "x25519" })
}

const prefixed = (prefix: Uint8Array, key: Uint8Array): Buffer => {
  const der = Buffer.alloc(prefix.length + KEY_LENGTH)
  der.set(prefix)
  der.set(key, prefix.length)
  return der
}

/** Through DER: every Node. */
export const derImport: Import = {
  privateKey: (bytes) => {
    const key = prefixed(PKCS8_PREFIX, bytes)
    try {
      return crypto.createPrivateKey({ key, format: "der", type: "pkcs8" })
    } finally {
      key.fill(0)
    }
  },
  publicKey: (bytes) => crypto.createPublicKey({ key: prefixed(SPKI_PREFIX, bytes), format: "der", type: "spki" })
}

/** `first` until it refuses, then `second` for good: what refuses one key of 32 bytes refuses all. */
export const importing = (first: Import, second: Import): Import => {
  let chosen = first
  const through = (how: keyof Import, bytes: Uint8Array): crypto.KeyObject => {
    if (chosen === second) return second[how](bytes)
    try {
      return first[how](bytes)
    } catch {
      chosen = second
      return second[how](bytes)
    }
  }
  return { privateKey: (bytes) => through("privateKey", bytes), publicKey: (bytes) => through("publicKey", bytes) }
}

const imports = importing(rawImport, derImport)

/**
 * Making a KeyObject costs as much as using it, and a handshake uses each of its keys twice, so the object stays with the
 * buffer that it was made from, for as long as that lives. A buffer that holds something else by now (it was wiped, say) is a
 * new key: the digest tells.
 */
const remembering = (make: (raw: Uint8Array) => crypto.KeyObject): ((raw: Uint8Array) => crypto.KeyObject) => {
  const known = new WeakMap<Uint8Array, { readonly digest: string; readonly key: crypto.KeyObject }>()
  return (raw) => {
    const digest = crypto.hash("sha256", raw, "hex")
    const found = known.get(raw)
    if (found?.digest === digest) return found.key
    const key = make(raw)
    known.set(raw, { digest, key })
    return key
  }
}

const privateKeyOf = remembering(imports.privateKey)
const publicKeyOf = remembering(imports.publicKey)

const keyPair = (privateKey: Uint8Array): KeyPair => {
  if (privateKey.length !== KEY_LENGTH) throw new RangeError(`a private key of ${privateKey.length} bytes`)
  const own = Uint8Array.from(privateKey)
  // The JSON form of a public key costs a tenth of its DER form.
  const { x = "" } = crypto.createPublicKey(privateKeyOf(own)).export({ format: "jwk" })
  return { privateKey: own, publicKey: Uint8Array.from(Buffer.from(x, "base64url")) }
}

const dh = (privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined => {
  if (privateKey.length !== KEY_LENGTH || publicKey.length !== KEY_LENGTH) return undefined
  try {
    const shared = crypto.diffieHellman({
      privateKey: privateKeyOf(privateKey),
      publicKey: publicKeyOf(publicKey)
    })
    // OpenSSL refuses the all-zero result itself; this holds whatever it does in a later version.
    return shared.every((byte) => byte === 0) ? undefined : plain(shared)
  } catch {
    return undefined
  }
}

const hash = (...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const [first] = parts
  // At once: a process's first Hash object costs 0.2 ms, and what is hashed here is never longer than a datagram.
  const whole = first !== undefined && parts.length === 1 ? first : concat(...parts)
  return plain(crypto.hash("sha256", whole, "buffer"))
}

// Raw keys are slow here too: Node takes 4 times as long over an HMAC, twice as long over an HKDF.
const hmac = (key: Uint8Array, ...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const state = crypto.createHmac("sha256", crypto.createSecretKey(key))
  for (const part of parts) state.update(part)
  return plain(state.digest())
}

/** The protocol's primitives on node:crypto. */
export const primitives: Primitives = {
  aeadKey,
  packetKey,
  maskKey,
  keyPair,
  dh,
  hash,
  hmac,
  hkdf: (salt, ikm, info, length) =>
    new Uint8Array(crypto.hkdfSync("sha256", crypto.createSecretKey(ikm), salt, info, length)),
  equal: (a, b) => a.length === b.length && crypto.timingSafeEqual(a, b)
}

/** Unpredictable bytes of the operating system's generator. */
export const entropy: Entropy = (length) => {
  // Not from Buffer's pool: secrets live in buffers of their own, so wiping one wipes it all.
  const bytes = new Uint8Array(length)
  crypto.randomFillSync(bytes)
  return bytes
}

/** The same bytes for the same seed, AES-256-CTR of zeros: for simulations and tests, never for keys of anyone. */
export const entropySeeded = (seed: string): Entropy => {
  const key = crypto.createHash("sha256").update(seed).digest()
  const stream = crypto.createCipheriv("aes-256-ctr", key, new Uint8Array(16))
  return (length) => plain(stream.update(new Uint8Array(length)))
}

const deriveFileKey = (secret: Uint8Array, salt: Uint8Array, kdf: FileKdf): Effect.Effect<Uint8Array> =>
  Effect.callback((resume) => {
    const done = (error: Error | null, key: Uint8Array): void =>
      resume(error === null ? Effect.succeed(plain(key)) : Effect.die(error))
    switch (kdf.name) {
      case "pbkdf2-hmac-sha256":
        return crypto.pbkdf2(secret, salt, kdf.iterations, KEY_LENGTH, "sha256", done)
      case "argon2id":
        return crypto.argon2(
          "argon2id",
          {
            message: secret,
            nonce: salt,
            parallelism: kdf.parallelism,
            tagLength: KEY_LENGTH,
            memory: kdf.memoryKib,
            passes: kdf.passes
          },
          done
        )
    }
  })

const make = (random: Entropy): Crypto["Service"] => ({
  implementation: "node:crypto",
  primitives,
  stun: stunPrimitives,
  entropy: random,
  generateKeyPair: () => keyPair(random(KEY_LENGTH)),
  deriveFileKey
})

/** Crypto of this host. */
export const layer: Layer.Layer<Crypto> = Layer.succeed(Crypto, make(entropy))

/** The same primitives over entropy that a seed decides. Every building of the layer starts the stream anew. */
export const layerSeeded = (seed: string): Layer.Layer<Crypto> =>
  Layer.effect(
    Crypto,
    Effect.sync(() => make(entropySeeded(seed)))
  )
