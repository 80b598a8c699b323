import * as crypto from "node:crypto"
import { existsSync, readFileSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fromHex, hex, utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import { entropy, entropySeeded, layer, layerSeeded, primitives } from "../../src/layers/CryptoNode.ts"
import { Crypto } from "../../src/services/Crypto.ts"

const EMPTY = new Uint8Array(0)

const bytes = (digits: string): Uint8Array => {
  const out = fromHex(digits)
  if (out === undefined) throw new Error(`no hexadecimal: ${digits}`)
  return out
}

const seal = (key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array => {
  const out = new Uint8Array(plaintext.length + 16)
  primitives.aeadKey(key).sealInto(nonce, aad, plaintext, out, 0)
  return out
}

const open = (key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): string | undefined => {
  const plaintext = primitives.aeadKey(key).open(nonce, aad, sealed)
  return plaintext === undefined ? undefined : hex(plaintext)
}

describe("CryptoNode AES-256-GCM", () => {
  // The GCM specification's test cases 13, 14 and 16.
  const cases = [
    {
      key: "00".repeat(32),
      nonce: "00".repeat(12),
      aad: "",
      plaintext: "",
      sealed: "530f8afbc74536b9a963b4f1c4cb738b"
    },
    {
      key: "00".repeat(32),
      nonce: "00".repeat(12),
      aad: "",
      plaintext: "00".repeat(16),
      sealed: "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    },
    {
      key: "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
      nonce: "cafebabefacedbaddecaf888",
      aad: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
      plaintext:
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
      sealed:
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"
    }
  ]

  it("published test cases", () => {
    for (const { aad, key, nonce, plaintext, sealed } of cases) {
      assert.strictEqual(hex(seal(bytes(key), bytes(nonce), bytes(aad), bytes(plaintext))), sealed)
      assert.strictEqual(open(bytes(key), bytes(nonce), bytes(aad), bytes(sealed)), plaintext)
    }
  })

  it("seals at an offset and leaves the rest alone, also over its own plaintext", () => {
    const key = primitives.aeadKey(entropySeeded("offset")(32))
    const nonce = new Uint8Array(12)
    const out = new Uint8Array(64).fill(0xee)
    key.sealInto(nonce, EMPTY, new Uint8Array(24), out, 8)
    assert.deepStrictEqual(out.subarray(0, 8), new Uint8Array(8).fill(0xee))
    assert.deepStrictEqual(out.subarray(48), new Uint8Array(16).fill(0xee))
    assert.deepStrictEqual(key.open(nonce, EMPTY, out.subarray(8, 48)), new Uint8Array(24))
    const inPlace = new Uint8Array(40)
    key.sealInto(nonce, EMPTY, inPlace.subarray(0, 24), inPlace, 0)
    assert.strictEqual(hex(inPlace), hex(out.subarray(8, 48)))
    assert.throws(() => key.sealInto(nonce, EMPTY, new Uint8Array(24), new Uint8Array(39), 0))
  })

  it("refuses every flipped bit of ciphertext, tag, associated data and nonce", () => {
    const random = entropySeeded("flips")
    const key = primitives.aeadKey(random(32))
    const parts = { nonce: random(12), aad: random(9), sealed: new Uint8Array(40 + 16) }
    const plaintext = random(40)
    key.sealInto(parts.nonce, parts.aad, plaintext, parts.sealed, 0)
    assert.deepStrictEqual(key.open(parts.nonce, parts.aad, parts.sealed), plaintext)
    for (const part of Object.values(parts)) {
      for (let bit = 0; bit < part.length * 8; bit++) {
        part[bit >> 3] = (part[bit >> 3] as number) ^ (1 << (bit & 7))
        assert.isUndefined(key.open(parts.nonce, parts.aad, parts.sealed))
        part[bit >> 3] = (part[bit >> 3] as number) ^ (1 << (bit & 7))
      }
    }
    assert.deepStrictEqual(key.open(parts.nonce, parts.aad, parts.sealed), plaintext)
  })

  it("refuses tags shorter than 16 bytes", () => {
    const random = entropySeeded("short")
    const key = primitives.aeadKey(random(32))
    const nonce = random(12)
    for (const length of [0, 1, 40]) {
      const sealed = new Uint8Array(length + 16)
      key.sealInto(nonce, EMPTY, random(length), sealed, 0)
      for (let cut = 1; cut <= sealed.length; cut++) {
        assert.isUndefined(key.open(nonce, EMPTY, sealed.subarray(0, sealed.length - cut)))
      }
    }
  })

  it("hands out plain Uint8Arrays whose slice is a copy", () => {
    const random = entropySeeded("plain")
    const key = random(32)
    const plaintext = primitives.aeadKey(key).open(new Uint8Array(12), EMPTY, seal(key, new Uint8Array(12), EMPTY, key))
    const pair = primitives.keyPair(key)
    const all = [
      plaintext,
      pair.publicKey,
      primitives.dh(key, pair.publicKey),
      primitives.hash(key),
      primitives.hmac(key, key),
      primitives.hkdf(EMPTY, key, EMPTY, 32),
      primitives.maskKey(key).mask(new Uint8Array(16), 1),
      entropy(32),
      random(32)
    ]
    for (const each of all) assert.strictEqual(Object.getPrototypeOf(each), Uint8Array.prototype)
  })

  it("throws for keys and nonces of the wrong length", () => {
    for (const length of [0, 16, 31, 33]) {
      assert.throws(() => primitives.aeadKey(new Uint8Array(length)))
      assert.throws(() => primitives.maskKey(new Uint8Array(length)))
      assert.throws(() => primitives.keyPair(new Uint8Array(length)))
    }
    const key = primitives.aeadKey(new Uint8Array(32))
    for (const length of [0, 8, 11, 13, 16]) {
      assert.throws(() => key.open(new Uint8Array(length), EMPTY, new Uint8Array(16)))
      assert.throws(() => key.sealInto(new Uint8Array(length), EMPTY, EMPTY, new Uint8Array(16), 0))
    }
  })
})

describe("CryptoNode AES-256-ECB masks", () => {
  it("FIPS 197 appendix C.3 and SP 800-38A F.1.5, each block by itself", () => {
    const fips = primitives.maskKey(bytes("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"))
    const nist = primitives.maskKey(bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"))
    for (let again = 0; again < 3; again++) {
      assert.strictEqual(
        hex(fips.mask(bytes("00112233445566778899aabbccddeeff"), 1)),
        "8ea2b7ca516745bfeafc49904b496089"
      )
      assert.strictEqual(
        hex(nist.mask(bytes("6bc1bee22e409f96e93d7e117393172a"), 1)),
        "f3eed1bdb5d2a03c064b5a7e3db181f8"
      )
      assert.strictEqual(
        hex(nist.mask(bytes("ae2d8a571e03ac9c9eb76fac45af8e51"), 1)),
        "591ccb10d410ed26dc5ba74a31362870"
      )
    }
    assert.throws(() => fips.mask(new Uint8Array(15), 1))
    const two = new Uint8Array([
      ...bytes("6bc1bee22e409f96e93d7e117393172a"),
      ...bytes("ae2d8a571e03ac9c9eb76fac45af8e51")
    ])
    assert.strictEqual(hex(nist.mask(two, 2)), "f3eed1bdb5d2a03c064b5a7e3db181f8591ccb10d410ed26dc5ba74a31362870")
    assert.strictEqual(hex(nist.mask(two, 1)), "f3eed1bdb5d2a03c064b5a7e3db181f8")
    nist.wipe()
    assert.throws(() => nist.mask(two, 1))
  })
})

describe("CryptoNode X25519", () => {
  it("RFC 7748 section 5.2: single steps", () => {
    const one = primitives.dh(
      bytes("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
      bytes("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    )
    assert.strictEqual(hex(one ?? EMPTY), "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")
    const two = primitives.dh(
      bytes("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"),
      bytes("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493")
    )
    assert.strictEqual(hex(two ?? EMPTY), "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957")
  })

  it("RFC 7748 section 5.2: iterated 1 and 1,000 times", () => {
    let k: Uint8Array = bytes(`09${"00".repeat(31)}`)
    let u = k
    for (let i = 1; i <= 1000; i++) {
      const next = primitives.dh(k, u)
      u = k
      k = next ?? EMPTY
      if (i === 1) assert.strictEqual(hex(k), "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
    }
    assert.strictEqual(hex(k), "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51")
  })

  it("RFC 7748 section 6.1: public key and shared secret", () => {
    const bob = primitives.keyPair(bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    assert.strictEqual(hex(bob.publicKey), "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    const alice = bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    const shared = primitives.dh(bob.privateKey, alice) ?? EMPTY
    assert.strictEqual(hex(shared), "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
  })

  it("both ends agree, and the top bit of a public key is ignored (section 5)", () => {
    const random = entropySeeded("agree")
    for (let i = 0; i < 20; i++) {
      const [a, b] = [primitives.keyPair(random(32)), primitives.keyPair(random(32))]
      const shared = primitives.dh(a.privateKey, b.publicKey)
      assert.isDefined(shared)
      assert.deepStrictEqual(primitives.dh(b.privateKey, a.publicKey), shared)
      const bent = b.publicKey.slice()
      bent[31] = (bent[31] as number) | 0x80
      assert.deepStrictEqual(primitives.dh(a.privateKey, bent), shared)
    }
  })

  it("goes by what a key's buffer holds now, whatever it held before", () => {
    const random = entropySeeded("again")
    const own = primitives.keyPair(random(32))
    const other = primitives.keyPair(random(32))
    const moved = primitives.keyPair(random(32))
    const before = primitives.dh(own.privateKey, other.publicKey)
    assert.deepStrictEqual(primitives.dh(own.privateKey, other.publicKey), before)
    const afresh = (a: Uint8Array, b: Uint8Array) => primitives.dh(a.slice(), b.slice())
    own.privateKey.set(moved.privateKey)
    assert.deepStrictEqual(primitives.dh(own.privateKey, other.publicKey), afresh(moved.privateKey, other.publicKey))
    other.publicKey.set(moved.publicKey)
    assert.deepStrictEqual(primitives.dh(own.privateKey, other.publicKey), afresh(moved.privateKey, moved.publicKey))
    own.privateKey.fill(0)
    assert.deepStrictEqual(primitives.dh(own.privateKey, other.publicKey), afresh(new Uint8Array(32), moved.publicKey))
    assert.notDeepEqual(primitives.dh(own.privateKey, other.publicKey), before)
  })

  it("refuses the points of small order and keys of any other length", () => {
    const { privateKey, publicKey } = primitives.keyPair(entropySeeded("small")(32))
    const small = [
      "00".repeat(32),
      `01${"00".repeat(31)}`,
      "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
      "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
      `ec${"ff".repeat(30)}7f`,
      `ed${"ff".repeat(30)}7f`,
      `ee${"ff".repeat(30)}7f`
    ]
    for (const point of small) assert.isUndefined(primitives.dh(privateKey, bytes(point)), point)
    for (const length of [0, 1, 31, 33, 64]) {
      assert.isUndefined(primitives.dh(privateKey, new Uint8Array(length).fill(9)))
      assert.isUndefined(primitives.dh(new Uint8Array(length).fill(9), publicKey))
    }
  })
})

describe("CryptoNode keys from bytes", () => {
  const [own, other] = [primitives.keyPair(entropy(32)), primitives.keyPair(entropy(32))]
  const shared = ({ privateKey, publicKey }: CryptoNode.Import): string =>
    crypto
      .diffieHellman({ privateKey: privateKey(own.privateKey), publicKey: publicKey(other.publicKey) })
      .toString("hex")
  const expected = Buffer.from(primitives.dh(own.privateKey, other.publicKey) ?? EMPTY).toString("hex")

  it("are the same either way, also from a part of a buffer", () => {
    assert.strictEqual(shared(CryptoNode.derImport), expected)
    assert.strictEqual(shared(CryptoNode.rawImport), expected)
    const around = new Uint8Array(48)
    around.set(other.publicKey, 9)
    const part = CryptoNode.rawImport.publicKey(around.subarray(9, 41))
    assert.isTrue(part.equals(CryptoNode.derImport.publicKey(other.publicKey)))
  })

  it("take the second way for good where the first one is not known", () => {
    let asked = 0
    const unknown = (): never => {
      asked++
      throw new TypeError("no such format")
    }
    const imports = CryptoNode.importing({ privateKey: unknown, publicKey: unknown }, CryptoNode.derImport)
    assert.deepStrictEqual([shared(imports), shared(imports), asked], [expected, expected, 1])
  })
})

describe("CryptoNode hashes", () => {
  it("SHA-256 and HMAC over parts are those over the whole", () => {
    const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert.strictEqual(hex(primitives.hash(utf8("abc"))), abc)
    assert.strictEqual(hex(primitives.hash(utf8("a"), EMPTY, utf8("bc"))), abc)
    assert.strictEqual(hex(primitives.hash()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    // RFC 4231, test case 2.
    const jefe = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert.strictEqual(hex(primitives.hmac(utf8("Jefe"), utf8("what do ya want for nothing?"))), jefe)
    assert.strictEqual(hex(primitives.hmac(utf8("Jefe"), utf8("what do ya "), utf8("want for nothing?"))), jefe)
  })

  it("RFC 5869 appendix A.1 to A.3", () => {
    const range = (first: number, last: number): Uint8Array =>
      Uint8Array.from({ length: last - first + 1 }, (_, i) => first + i)
    const ikm = new Uint8Array(22).fill(0x0b)
    const cases: ReadonlyArray<readonly [Uint8Array, Uint8Array, Uint8Array, number, string]> = [
      [
        range(0x00, 0x0c),
        ikm,
        range(0xf0, 0xf9),
        42,
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
      ],
      [
        range(0x60, 0xaf),
        range(0x00, 0x4f),
        range(0xb0, 0xff),
        82,
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
      ],
      [EMPTY, ikm, EMPTY, 42, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"]
    ]
    for (const [salt, key, info, length, okm] of cases) {
      assert.strictEqual(hex(primitives.hkdf(salt, key, info, length)), okm)
    }
    assert.strictEqual(primitives.hkdf(EMPTY, EMPTY, EMPTY, 96).length, 96)
  })

  it("equal compares content and length", () => {
    assert.isTrue(primitives.equal(EMPTY, EMPTY))
    assert.isTrue(primitives.equal(utf8("same"), utf8("same")))
    assert.isFalse(primitives.equal(utf8("same"), utf8("sama")))
    assert.isFalse(primitives.equal(utf8("same"), utf8("same!")))
  })
})

describe("CryptoNode entropy", () => {
  it("fresh bytes in a buffer of their own", () => {
    const [a, b] = [entropy(32), entropy(32)]
    assert.strictEqual(a.buffer.byteLength, 32)
    assert.notStrictEqual(hex(a), hex(b))
    assert.strictEqual(entropy(0).length, 0)
  })

  it("a seed decides the stream, however it is cut", () => {
    const [a, b, c] = [entropySeeded("seed"), entropySeeded("seed"), entropySeeded("other")]
    const whole = a(48)
    assert.strictEqual(hex(b(5)) + hex(b(0)) + hex(b(43)), hex(whole))
    assert.notStrictEqual(hex(c(48)), hex(whole))
    assert.notStrictEqual(hex(a(48)), hex(whole))
  })

  it.effect("layerSeeded gives the same key pairs each time it is built, layer never does", () =>
    Effect.gen(function* () {
      const pair = Crypto.useSync((service) => service.generateKeyPair())
      const one = yield* pair.pipe(Effect.provide(layerSeeded("world")))
      const same = yield* pair.pipe(Effect.provide(layerSeeded("world")))
      const other = yield* pair.pipe(Effect.provide(layerSeeded("another world")))
      assert.deepStrictEqual(one, same)
      assert.notDeepEqual(one, other)
      assert.deepStrictEqual(primitives.keyPair(one.privateKey), one)
      const real = yield* Effect.all([pair, pair]).pipe(Effect.provide(layer))
      assert.notDeepEqual(real[0], real[1])
    })
  )
})

describe("CryptoNode file keys", () => {
  it.effect("PBKDF2-HMAC-SHA256: RFC 7914 section 11, cut to 32 bytes", () =>
    Effect.gen(function* () {
      const { deriveFileKey } = yield* Crypto
      const key = (secret: string, salt: string, iterations: number) =>
        Effect.map(deriveFileKey(utf8(secret), utf8(salt), { name: "pbkdf2-hmac-sha256", iterations }), hex)
      const one = "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
      assert.strictEqual(yield* key("passwd", "salt", 1), one)
      const many = "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
      assert.strictEqual(yield* key("Password", "NaCl", 80_000), many)
    }).pipe(Effect.provide(layer))
  )

  it.effect("Argon2id: the reference implementation's own tests", () =>
    Effect.gen(function* () {
      const { deriveFileKey } = yield* Crypto
      const cases: ReadonlyArray<readonly [passes: number, memoryKib: number, parallelism: number, key: string]> = [
        [2, 65_536, 1, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"],
        [2, 256, 1, "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"],
        [2, 256, 2, "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037"]
      ]
      for (const [passes, memoryKib, parallelism, key] of cases) {
        const derived = yield* deriveFileKey(utf8("password"), utf8("somesalt"), {
          name: "argon2id",
          passes,
          memoryKib,
          parallelism
        })
        assert.strictEqual(hex(derived), key)
      }
    }).pipe(Effect.provide(layer))
  )

  it("the host's Argon2id is that of RFC 9106 section 5.3", () => {
    const tag = crypto.argon2Sync("argon2id", {
      message: new Uint8Array(32).fill(1),
      nonce: new Uint8Array(16).fill(2),
      secret: new Uint8Array(8).fill(3),
      associatedData: new Uint8Array(12).fill(4),
      parallelism: 4,
      tagLength: 32,
      memory: 32,
      passes: 3
    })
    assert.strictEqual(hex(tag), "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659")
  })
})

// -- published vectors ----------------------------------------------------------------------------------------------

const VECTORS = path.resolve(import.meta.dirname, "../../../shared/vectors")
const has = (file: string): boolean => existsSync(path.join(VECTORS, file))
const read = (file: string): string => readFileSync(path.join(VECTORS, file), "utf8")
const titled = (title: string, file: string): string =>
  has(file) ? title : `${title} (skipped: ../shared/vectors/${file} is not here)`

interface Group<T> {
  readonly keySize?: number
  readonly ivSize?: number
  readonly tagSize?: number
  readonly tests: ReadonlyArray<T & { readonly tcId: number; readonly result: "valid" | "invalid" | "acceptable" }>
}

const wycheproof = <T>(file: string): ReadonlyArray<Group<T>> =>
  (JSON.parse(read(file)) as { testGroups: ReadonlyArray<Group<T>> }).testGroups

describe("CryptoNode against Wycheproof", () => {
  const gcm = "wycheproof/aes_gcm_test.json"
  it.skipIf(!has(gcm))(titled("AES-256-GCM with 96-bit nonces and 128-bit tags: 66 cases", gcm), () => {
    type Case = Record<"key" | "iv" | "aad" | "msg" | "ct" | "tag", string>
    const groups = wycheproof<Case>(gcm).filter((g) => g.keySize === 256 && g.ivSize === 96 && g.tagSize === 128)
    const tests = groups.flatMap((group) => group.tests)
    for (const t of tests) {
      const [key, nonce, aad] = [bytes(t.key), bytes(t.iv), bytes(t.aad)]
      assert.strictEqual(open(key, nonce, aad, bytes(t.ct + t.tag)), t.result === "valid" ? t.msg : undefined)
      if (t.result === "valid") assert.strictEqual(hex(seal(key, nonce, aad, bytes(t.msg))), t.ct + t.tag)
    }
    assert.strictEqual(tests.length, 66)
    assert.strictEqual(tests.filter((t) => t.result === "invalid").length, 27)
  })

  const x25519 = "wycheproof/x25519_test.json"
  it.skipIf(!has(x25519))(titled("X25519: 518 cases, the 31 with an all-zero secret refused", x25519), () => {
    const tests = wycheproof<Record<"public" | "private" | "shared", string>>(x25519).flatMap((group) => group.tests)
    let refused = 0
    for (const t of tests) {
      const shared = primitives.dh(bytes(t.private), bytes(t.public))
      if (/^0+$/.test(t.shared)) {
        assert.isUndefined(shared, `case ${t.tcId}`)
        refused++
      } else {
        assert.strictEqual(hex(shared ?? EMPTY), t.shared, `case ${t.tcId}`)
      }
    }
    assert.deepStrictEqual([tests.length, refused], [518, 31])
  })

  const hkdf = "wycheproof/hkdf_sha256_test.json"
  it.skipIf(!has(hkdf))(titled("HKDF-SHA256: 86 cases, the 3 that ask for too much thrown out", hkdf), () => {
    type Case = Record<"ikm" | "salt" | "info" | "okm", string> & { readonly size: number }
    const tests = wycheproof<Case>(hkdf).flatMap((group) => group.tests)
    for (const t of tests) {
      const derive = () => hex(primitives.hkdf(bytes(t.salt), bytes(t.ikm), bytes(t.info), t.size))
      if (t.result === "valid") assert.strictEqual(derive(), t.okm, `case ${t.tcId}`)
      else assert.throws(derive)
    }
    assert.deepStrictEqual([tests.length, tests.filter((t) => t.result !== "valid").length], [86, 3])
  })

  const hmac = "wycheproof/hmac_sha256_test.json"
  it.skipIf(!has(hmac))(titled("HMAC-SHA256: 174 cases", hmac), () => {
    const groups = wycheproof<Record<"key" | "msg" | "tag", string>>(hmac)
    let count = 0
    for (const group of groups) {
      for (const t of group.tests) {
        const tag = primitives.hmac(bytes(t.key), bytes(t.msg)).subarray(0, (group.tagSize ?? 0) / 8)
        assert.strictEqual(primitives.equal(tag, bytes(t.tag)), t.result === "valid", `case ${t.tcId}`)
        count++
      }
    }
    assert.strictEqual(count, 174)
  })

  const pbkdf2 = "wycheproof/pbkdf2_hmacsha256_test.json"
  it.effect.skipIf(!has(pbkdf2))(
    titled("PBKDF2-HMAC-SHA256: 60 cases, compared over their first 32 bytes", pbkdf2),
    () =>
      Effect.gen(function* () {
        const { deriveFileKey } = yield* Crypto
        type Case = Record<"password" | "salt" | "dk", string> & { readonly iterationCount: number }
        const tests = wycheproof<Case>(pbkdf2).flatMap((group) => group.tests)
        for (const t of tests) {
          const kdf = { name: "pbkdf2-hmac-sha256", iterations: t.iterationCount } as const
          const key = hex(yield* deriveFileKey(bytes(t.password), bytes(t.salt), kdf))
          // Each block of the output stands by itself, so a shorter or longer key shares its beginning.
          const length = Math.min(key.length, t.dk.length)
          assert.strictEqual(key.slice(0, length), t.dk.slice(0, length), `case ${t.tcId}`)
        }
        assert.strictEqual(tests.length, 60)
      }).pipe(Effect.provide(layer))
  )
})

interface Cavp {
  readonly fields: ReadonlyMap<string, string>
  readonly fails: boolean
}

/** The records of a NIST .rsp file that stand below a heading with a 96-bit IV and a 128-bit tag. */
const cavp = (content: string): ReadonlyArray<Cavp> => {
  const heading = new Map<string, string>()
  const records: Array<Cavp> = []
  for (const block of content.replaceAll("\r", "").split(/\n\s*\n/)) {
    const fields = new Map<string, string>()
    for (const line of block.split("\n")) {
      const [, bracket, name, value] = /^(\[?)(\w+) ?= ?([0-9a-f]*)\]?$/.exec(line.trim()) ?? []
      if (name !== undefined) (bracket === "[" ? heading : fields).set(name, value ?? "")
    }
    const wanted = heading.get("IVlen") === "96" && heading.get("Taglen") === "128"
    if (wanted && fields.has("Key")) records.push({ fields, fails: /^FAIL$/m.test(block) })
  }
  return records
}

describe("CryptoNode against NIST CAVP", () => {
  const check = (records: ReadonlyArray<Cavp>): number => {
    let refused = 0
    for (const { fails, fields } of records) {
      const [key, nonce, aad, tag, ct] = ["Key", "IV", "AAD", "Tag", "CT"].map((name) => bytes(fields.get(name) ?? ""))
      if (!(key && nonce && aad && tag && ct)) throw new Error("a record without its fields")
      const sealed = Uint8Array.from([...ct, ...tag])
      const plaintext = fields.get("PT") ?? ""
      assert.strictEqual(open(key, nonce, aad, sealed), fails ? undefined : plaintext)
      if (fails) refused++
      else assert.strictEqual(hex(seal(key, nonce, aad, bytes(plaintext))), hex(sealed))
    }
    return refused
  }

  it("reads the format: a record that opens, one marked FAIL, one under a shorter tag left out", () => {
    const zeros = (length: number): string => "00".repeat(length)
    const record = (tag: string, end: string): string =>
      `Count = 0\r\nKey = ${zeros(32)}\r\nIV = ${zeros(12)}\r\nCT = \r\nAAD = \r\nTag = ${tag}\r\n${end}`
    const heading = (tagLength: number): string =>
      `[Keylen = 256]\r\n[IVlen = 96]\r\n[PTlen = 0]\r\n[AADlen = 0]\r\n[Taglen = ${tagLength}]`
    const good = record("530f8afbc74536b9a963b4f1c4cb738b", "PT = ")
    const bad = record("530f8afbc74536b9a963b4f1c4cb738c", "FAIL")
    const records = cavp([heading(128), good, bad, heading(96), good].join("\r\n\r\n"))
    assert.deepStrictEqual([records.length, check(records)], [2, 1])
  })

  for (const file of ["nist-cavp/gcmDecrypt256.rsp", "nist-cavp/gcmEncryptExtIV256.rsp"]) {
    it.skipIf(!has(file))(titled(`${path.basename(file)}: 96-bit IV, 128-bit tag`, file), () => {
      const records = cavp(read(file))
      const refused = check(records)
      // 25 lengths of text and data, 15 records each.
      assert.strictEqual(records.length, 375)
      assert.strictEqual(refused > 0, file.includes("Decrypt"))
    })
  }
})
