import { existsSync, readFileSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { concat, fromHex, hex, utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as Noise from "../../src/domain/protocol/Noise.ts"
import type { KeyPair } from "../../src/domain/protocol/Primitives.ts"
import { entropySeeded, primitives } from "../../src/layers/CryptoNode.ts"

const SUITE = "25519_AESGCM_SHA256"
const EMPTY = new Uint8Array(0)

const bytes = (digits: string): Uint8Array => {
  const out = fromHex(digits)
  if (out === undefined) throw new Error(`no hexadecimal: ${digits}`)
  return out
}

const present = <A>(value: A | undefined): A => {
  if (value === undefined) throw new Error("undefined where a value was due")
  return value
}

const named = (name: string): Noise.Pattern => present(Noise.pattern(name))

const BASES =
  "N K X NN NK NX XN XK XX KN KK KX IN IK IX NK1 NX1 X1N X1K XK1 X1K1 X1X XX1 X1X1 K1N K1K KK1 K1K1 K1X KX1 K1X1 I1N I1K IK1 I1K1 I1X IX1 I1X1".split(
    " "
  )

/** Every base pattern without a psk, with one at each place, and with all of them. */
const NAMES = BASES.flatMap((base) => {
  const places = Array.from({ length: named(base).messages.length + 1 }, (_, i) => `psk${i}`)
  return [base, ...places.map((place) => base + place), base + places.join("+")]
})

interface Sides {
  readonly initiator: Noise.Handshake
  readonly responder: Noise.Handshake
  readonly initiatorStatic: KeyPair
  readonly responderStatic: KeyPair
}

/** Two ends that agree, all keys out of `seed`; `change` bends the responder's options. */
const sides = (name: string, seed: string, change: Partial<Noise.HandshakeOptions> = {}): Sides => {
  const pattern = named(name)
  const random = entropySeeded(seed)
  const initiatorStatic = primitives.keyPair(random(32))
  const responderStatic = primitives.keyPair(random(32))
  const psks = Array.from({ length: pattern.psks }, () => random(32))
  const prologue = utf8("prologue")
  return {
    initiatorStatic,
    responderStatic,
    initiator: new Noise.Handshake(primitives, {
      pattern,
      initiator: true,
      prologue,
      local: initiatorStatic,
      remote: pattern.responderKnown ? responderStatic.publicKey : undefined,
      psks
    }),
    responder: new Noise.Handshake(primitives, {
      pattern,
      initiator: false,
      prologue,
      local: responderStatic,
      remote: pattern.initiatorKnown ? initiatorStatic.publicKey : undefined,
      psks,
      ...change
    })
  }
}

/**
 * The first message that the reader refused, or -1 when the handshake went through. `tamper` sees every message.
 * Ephemeral keys come from `seed`, so the same run can be made again and again.
 */
const run = (
  { initiator, responder }: Sides,
  name: string,
  seed: string,
  tamper: (message: Uint8Array, index: number) => Uint8Array = (message) => message
): number => {
  const random = entropySeeded(`${seed} ephemeral`)
  for (const index of named(name).messages.keys()) {
    const [writer, reader] = index % 2 === 0 ? [initiator, responder] : [responder, initiator]
    const payload = utf8(`payload ${index}`)
    const message = writer.writeMessage(payload, primitives.keyPair(random(32)))
    if (message === undefined) return index
    const received = reader.readMessage(tamper(message, index))
    if (received === undefined || hex(received) !== hex(payload)) return index
  }
  return -1
}

describe("Noise", () => {
  it("every pattern at every psk place completes: both ends agree on hash, keys and identities", () => {
    for (const name of NAMES) {
      const ends = sides(name, name)
      const { initiator, responder } = ends
      assert.strictEqual(run(ends, name, name), -1, name)
      assert.isTrue(initiator.complete && responder.complete, name)
      assert.strictEqual(hex(initiator.handshakeHash), hex(responder.handshakeHash), name)
      assert.strictEqual(hex(initiator.chainingKey), hex(responder.chainingKey), name)
      assert.deepStrictEqual(initiator.split(), responder.split(), name)
      assert.notStrictEqual(hex(initiator.split().initiatorKey), hex(initiator.split().responderKey), name)
      const tokens = named(name).messages
      const sends = (side: number) => tokens.some((message, i) => i % 2 === side && message.includes("s"))
      if (sends(0)) assert.deepStrictEqual(responder.remoteStatic, ends.initiatorStatic.publicKey, name)
      if (sends(1)) assert.deepStrictEqual(initiator.remoteStatic, ends.responderStatic.publicKey, name)
    }
    assert.strictEqual(NAMES.length, 215)
  })

  it("knows no pattern but those of the table and no psk place outside the messages", () => {
    for (const name of [
      "",
      "IKpsk",
      "IKpsk3",
      "IKpsk2+",
      "IKpsk2+psk2",
      "IKpsk2psk1",
      "IK2",
      "ZZ",
      "toString",
      "IKfallback",
      "Npsk2"
    ]) {
      assert.isUndefined(Noise.pattern(name), name)
    }
    assert.deepStrictEqual(named("IKpsk2").messages, [
      ["e", "es", "s", "ss"],
      ["e", "ee", "se", "psk"]
    ])
    assert.deepStrictEqual(named("NNpsk0+psk2").messages, [
      ["psk", "e"],
      ["e", "ee", "psk"]
    ])
  })

  it("IKpsk2 by hand: the specification's steps written out give the same bytes", () => {
    const p = primitives
    const random = entropySeeded("by hand")
    const [si, sr, ei, er] = [random(32), random(32), random(32), random(32)].map((key) => p.keyPair(key)) as [
      KeyPair,
      KeyPair,
      KeyPair,
      KeyPair
    ]
    const psk = random(32)
    const prologue = utf8("by hand")
    const shared = (a: KeyPair, b: KeyPair): Uint8Array => present(p.dh(a.privateKey, b.publicKey))
    const expand = (ck: Uint8Array, ikm: Uint8Array): [Uint8Array, Uint8Array, Uint8Array] => {
      const temp = p.hmac(ck, ikm)
      const one = p.hmac(temp, Uint8Array.of(1))
      const two = p.hmac(temp, one, Uint8Array.of(2))
      return [one, two, p.hmac(temp, two, Uint8Array.of(3))]
    }
    // 32 bytes exactly: taken as it is, not hashed (section 5.2).
    let h: Uint8Array = utf8(`Noise_IKpsk2_${SUITE}`)
    let ck = h
    let k: Uint8Array = EMPTY
    const mixHash = (data: Uint8Array): void => {
      h = p.hash(h, data)
    }
    const mixKey = (data: Uint8Array): void => {
      const [one, two] = expand(ck, data)
      ck = one
      k = two
    }
    const seal = (plaintext: Uint8Array): Uint8Array => {
      const out = new Uint8Array(plaintext.length + 16)
      // Each key of this pattern seals once, so the counter is always 0.
      p.aeadKey(k).sealInto(new Uint8Array(12), h, plaintext, out, 0)
      mixHash(out)
      return out
    }
    mixHash(prologue)
    mixHash(sr.publicKey)
    mixHash(ei.publicKey)
    mixKey(ei.publicKey)
    mixKey(shared(ei, sr))
    const sealedStatic = seal(si.publicKey)
    mixKey(shared(si, sr))
    const first = concat(ei.publicKey, sealedStatic, seal(utf8("one")))
    mixHash(er.publicKey)
    mixKey(er.publicKey)
    mixKey(shared(er, ei))
    mixKey(shared(er, si))
    const [pskCk, pskHash, pskKey] = expand(ck, psk)
    ck = pskCk
    mixHash(pskHash)
    k = pskKey
    const second = concat(er.publicKey, seal(utf8("two")))
    const [initiatorKey, responderKey] = expand(ck, EMPTY)

    const pattern = named("IKpsk2")
    const initiator = new Noise.Handshake(p, {
      pattern,
      initiator: true,
      prologue,
      local: si,
      remote: sr.publicKey,
      psks: [psk]
    })
    const responder = new Noise.Handshake(p, { pattern, initiator: false, prologue, local: sr, psks: [psk] })
    assert.strictEqual(hex(present(initiator.writeMessage(utf8("one"), ei))), hex(first))
    assert.deepStrictEqual(responder.readMessage(first), utf8("one"))
    assert.deepStrictEqual(responder.remoteStatic, si.publicKey)
    assert.strictEqual(hex(present(responder.writeMessage(utf8("two"), er))), hex(second))
    assert.deepStrictEqual(initiator.readMessage(second), utf8("two"))
    assert.deepStrictEqual(initiator.handshakeHash, h)
    assert.deepStrictEqual(initiator.chainingKey, ck)
    assert.deepStrictEqual(initiator.split(), { initiatorKey, responderKey })
    assert.deepStrictEqual(responder.split(), { initiatorKey, responderKey })
  })

  it("IKpsk2: a flip in every byte and a cut at every byte of either message is refused, and the end is final", () => {
    const name = "IKpsk2"
    const lengths: Array<number> = []
    run(sides(name, "flip"), name, "flip", (message, index) => {
      lengths[index] = message.length
      return message
    })
    assert.deepStrictEqual(lengths, [32 + 48 + 9 + 16, 32 + 9 + 16])
    for (const [index, length] of lengths.entries()) {
      for (let at = 0; at < length; at++) {
        const ends = sides(name, "flip")
        const flipped = run(ends, name, "flip", (message, i) => {
          const out = message.slice()
          if (i === index) out[at] = (out[at] as number) ^ (1 << (at % 8))
          return out
        })
        assert.strictEqual(flipped, index, `byte ${at} of message ${index}`)
        const reader = index === 0 ? ends.responder : ends.initiator
        assert.isFalse(reader.complete)
        assert.isUndefined(reader.remoteStatic)
        assert.isUndefined(reader.readMessage(new Uint8Array(length)))
        assert.isUndefined(reader.writeMessage(EMPTY))
        assert.throws(() => reader.split())
        const cut = run(sides(name, "flip"), name, "flip", (message, i) =>
          i === index ? message.subarray(0, at) : message
        )
        assert.strictEqual(cut, index, `message ${index} cut at ${at}`)
      }
    }
  })

  it("with psk0 every pattern refuses a flipped byte in the message that carries it", () => {
    let flips = 0
    for (const name of NAMES.filter((each) => each.includes("psk0"))) {
      run(sides(name, name), name, name, (message, index) => {
        for (const at of [0, 15, Math.floor(message.length / 2), message.length - 1]) {
          const refused = run(sides(name, name), name, name, (other, i) => {
            if (i !== index) return other
            const out = other.slice()
            out[at] = (out[at] as number) ^ 1
            return out
          })
          assert.strictEqual(refused, index, `${name} message ${index} byte ${at}`)
          flips++
        }
        return message
      })
    }
    assert.isAbove(flips, 700)
  })

  it("IKpsk2: another prologue or server key stops message 1, another psk or client key message 2", () => {
    const name = "IKpsk2"
    const random = entropySeeded("others")
    const refused = (change: Partial<Noise.HandshakeOptions>) => run(sides(name, "x", change), name, "x")
    assert.strictEqual(refused({}), -1)
    assert.strictEqual(refused({ prologue: utf8("Prologue") }), 0)
    assert.strictEqual(refused({ local: primitives.keyPair(random(32)) }), 0)
    assert.strictEqual(refused({ psks: [random(32)] }), 1)
    assert.strictEqual(refused({ pattern: named("IKpsk1") }), 0)
  })

  it("public keys of small order end the handshake on either side", () => {
    const zero = new Uint8Array(32)
    const random = entropySeeded("small order")
    const pattern = named("IKpsk2")
    const local = primitives.keyPair(random(32))
    const initiator = new Noise.Handshake(primitives, {
      pattern,
      initiator: true,
      prologue: EMPTY,
      local,
      remote: zero,
      psks: [random(32)]
    })
    assert.isUndefined(initiator.writeMessage(EMPTY, primitives.keyPair(random(32))))
    const { responder } = sides("IKpsk2", "small order")
    assert.isUndefined(responder.readMessage(concat(zero, random(100))))
    // NN meets the peer's key only while writing.
    const naive = sides("NN", "small order").responder
    assert.deepStrictEqual(naive.readMessage(concat(zero, utf8("hi"))), utf8("hi"))
    assert.isUndefined(naive.writeMessage(EMPTY, primitives.keyPair(random(32))))
  })

  it("random bytes never throw", () => {
    const random = entropySeeded("fuzz")
    for (let i = 0; i < 400; i++) {
      const name = NAMES[i % NAMES.length] as string
      if (!name.includes("psk")) continue
      assert.isUndefined(sides(name, "fuzz").responder.readMessage(random(i)), name)
    }
    assert.isUndefined(sides("NN", "fuzz").responder.readMessage(new Uint8Array(Noise.MAX_MESSAGE_LENGTH + 1)))
  })

  it("a caller's mistakes throw; a message out of turn changes nothing", () => {
    const random = entropySeeded("mistakes")
    const pattern = named("IKpsk2")
    const local = primitives.keyPair(random(32))
    const psks = [random(32)]
    const make = (options: Partial<Noise.HandshakeOptions>) => () =>
      new Noise.Handshake(primitives, {
        pattern,
        initiator: true,
        prologue: EMPTY,
        local,
        remote: local.publicKey,
        psks,
        ...options
      })
    assert.doesNotThrow(make({}))
    assert.throws(make({ remote: undefined }))
    assert.throws(make({ remote: random(31) }))
    assert.throws(make({ psks: [] }))
    assert.throws(make({ psks: [random(16)] }))
    assert.throws(make({ initiator: false, remote: undefined, local: undefined }))
    const { initiator, responder } = sides("IKpsk2", "turn")
    assert.isUndefined(initiator.readMessage(random(100)))
    assert.throws(() => responder.writeMessage(EMPTY, local))
    assert.throws(() => initiator.writeMessage(EMPTY))
    const fresh = sides("IKpsk2", "turn")
    assert.isUndefined(fresh.initiator.readMessage(random(100)))
    assert.strictEqual(run(fresh, "IKpsk2", "turn"), -1)
    assert.isUndefined(fresh.responder.readMessage(random(100)))
    assert.isTrue(fresh.responder.complete)
  })

  it("wipe overwrites the private ephemeral key and keeps nothing usable", () => {
    const { initiator } = sides("IKpsk2", "wipe")
    const ephemeral = primitives.keyPair(entropySeeded("wipe")(32))
    assert.isDefined(initiator.writeMessage(EMPTY, ephemeral))
    initiator.wipe()
    assert.deepStrictEqual(ephemeral.privateKey, new Uint8Array(32))
    assert.deepStrictEqual(initiator.chainingKey, new Uint8Array(32))
    assert.isUndefined(initiator.readMessage(new Uint8Array(100)))
  })

  it("a cipher state counts what it opened, not what it refused", () => {
    const key = entropySeeded("cipher")(32)
    const [a, b] = [new Noise.CipherState(primitives, key), new Noise.CipherState(primitives, key)]
    for (let i = 0; i < 300; i++) {
      const sealed = a.encrypt(EMPTY, utf8(`${i}`))
      assert.isUndefined(b.decrypt(utf8("x"), sealed))
      assert.isUndefined(b.decrypt(EMPTY, sealed.subarray(0, 15)))
      assert.deepStrictEqual(b.decrypt(EMPTY, sealed), utf8(`${i}`))
      assert.isUndefined(b.decrypt(EMPTY, sealed))
    }
  })
})

// -- published vectors ----------------------------------------------------------------------------------------------

interface Vector {
  readonly protocol_name?: string
  readonly name?: string
  readonly init_prologue: string
  readonly init_ephemeral?: string
  readonly init_static?: string
  readonly init_remote_static?: string
  readonly init_psks?: ReadonlyArray<string>
  readonly resp_prologue: string
  readonly resp_ephemeral?: string
  readonly resp_static?: string
  readonly resp_remote_static?: string
  readonly resp_psks?: ReadonlyArray<string>
  readonly handshake_hash?: string
  readonly messages: ReadonlyArray<{ readonly payload: string; readonly ciphertext: string }>
}

const VECTORS = path.resolve(import.meta.dirname, "../../../shared/vectors/noise")
const here = existsSync(VECTORS)

const load = (file: string): ReadonlyArray<Vector> => {
  const { vectors } = JSON.parse(readFileSync(path.join(VECTORS, file), "utf8")) as { vectors: ReadonlyArray<Vector> }
  return vectors.filter((vector) => nameOf(vector).endsWith(`_${SUITE}`))
}

const nameOf = (vector: Vector): string => vector.protocol_name ?? vector.name ?? ""

const keys = (digits: string | undefined): KeyPair | undefined =>
  digits === undefined ? undefined : primitives.keyPair(bytes(digits))

/** Runs one vector from its first to its last message; what comes out is compared with what is written. */
const replay = (vector: Vector, patternName: string): void => {
  const pattern = named(patternName)
  const label = nameOf(vector)
  const initiator = new Noise.Handshake(primitives, {
    pattern,
    initiator: true,
    prologue: bytes(vector.init_prologue),
    local: keys(vector.init_static),
    remote: pattern.responderKnown ? bytes(present(vector.init_remote_static)) : undefined,
    psks: (vector.init_psks ?? []).map(bytes)
  })
  const responder = new Noise.Handshake(primitives, {
    pattern,
    initiator: false,
    prologue: bytes(vector.resp_prologue),
    local: keys(vector.resp_static),
    remote: pattern.initiatorKnown ? bytes(present(vector.resp_remote_static)) : undefined,
    psks: (vector.resp_psks ?? []).map(bytes)
  })
  const turns = pattern.messages.length
  assert.isAtLeast(vector.messages.length, turns, label)
  for (const [i, { ciphertext, payload }] of vector.messages.slice(0, turns).entries()) {
    const byInitiator = i % 2 === 0
    const [writer, reader] = byInitiator ? [initiator, responder] : [responder, initiator]
    const message = writer.writeMessage(
      bytes(payload),
      keys(byInitiator ? vector.init_ephemeral : vector.resp_ephemeral)
    )
    assert.strictEqual(hex(present(message)), ciphertext, `${label} message ${i}`)
    assert.strictEqual(hex(present(reader.readMessage(bytes(ciphertext)))), payload, `${label} payload ${i}`)
  }
  assert.strictEqual(hex(initiator.handshakeHash), hex(responder.handshakeHash), label)
  if (vector.handshake_hash !== undefined) {
    assert.strictEqual(hex(initiator.handshakeHash), vector.handshake_hash, `${label} handshake hash`)
  }
  const split = initiator.split()
  assert.deepStrictEqual(split, responder.split(), label)
  const states = (key: Uint8Array) =>
    [new Noise.CipherState(primitives, key), new Noise.CipherState(primitives, key)] as const
  const fromInitiator = states(split.initiatorKey)
  const fromResponder = states(split.responderKey)
  for (const [i, { ciphertext, payload }] of vector.messages.entries()) {
    if (i < turns) continue
    const [sender, receiver] = turns === 1 || i % 2 === 0 ? fromInitiator : fromResponder
    assert.strictEqual(hex(sender.encrypt(EMPTY, bytes(payload))), ciphertext, `${label} transport ${i}`)
    assert.strictEqual(hex(present(receiver.decrypt(EMPTY, bytes(ciphertext)))), payload, `${label} transport ${i}`)
  }
}

/** What is in a file and not run: `NoisePSK_…` is the pre-shared key of revision 32 and before, since replaced. */
const FILES = [
  { file: "cacophony.json", total: 59, run: 59, hashes: 59, must: "Noise_IKpsk2" },
  { file: "snow.json", total: 51, run: 51, hashes: 0, must: "Noise_XXpsk0+psk1+psk2+psk3" },
  { file: "noise-c-basic.json", total: 30, run: 15, hashes: 15, must: "Noise_IK" }
]

describe.skipIf(!here)(`Noise vectors of ${SUITE}${here ? "" : " (skipped: ../shared/vectors is not here)"}`, () => {
  for (const { file, hashes, must, run: expected, total } of FILES) {
    it(`${file}: ${expected} of ${total} run to the last message, ${hashes} with a handshake hash`, () => {
      const vectors = load(file)
      const runnable = vectors.filter((vector) => !nameOf(vector).startsWith("NoisePSK_"))
      for (const vector of runnable) replay(vector, nameOf(vector).slice("Noise_".length, -(SUITE.length + 1)))
      assert.strictEqual(vectors.length, total)
      assert.strictEqual(runnable.length, expected)
      assert.strictEqual(runnable.filter((vector) => vector.handshake_hash !== undefined).length, hashes)
      assert.isTrue(runnable.some((vector) => nameOf(vector) === `${must}_${SUITE}`))
    })
  }
})
