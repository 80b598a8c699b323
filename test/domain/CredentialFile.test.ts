import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "fast-check"
import * as CredentialFile from "../../src/domain/CredentialFile.ts"
import * as Device from "../../src/domain/Device.ts"
import { hex, text, utf8 } from "../../src/domain/protocol/Cursor.ts"

const NOW = Date.UTC(2026, 2, 1, 12, 0, 0, 123)

const content: CredentialFile.CredentialFile = {
  version: 1,
  type: "clawchat-credential",
  protocol_version: 1,
  connection_id: "00112233445566778899aabbccddeeff",
  server_id: "server-1",
  server_name: "Home",
  server_public_ip: "192.0.2.1",
  server_udp_port: 50_000,
  candidates: [
    { kind: "reflexive", address: "192.0.2.1", port: 50_000 },
    { kind: "mapped", address: "2001:db8::1", port: 50_001 }
  ],
  shared_secret: new Uint8Array(32).fill(1),
  server_public_key: new Uint8Array(32).fill(2),
  bootstrap_key_id: "0badcafe",
  timestamp: NOW,
  valid_from: NOW,
  valid_until: NOW + 660_000,
  next_rotation: NOW + 600_000,
  grace_period: 300,
  nat_traversal: { stun: [], turn: [], rendezvous: [], timeout: 60 }
}

const envelope: CredentialFile.Envelope = {
  kdf: CredentialFile.DEFAULT_KDF,
  salt: new Uint8Array(16).fill(3),
  iv: new Uint8Array(12).fill(4),
  ciphertext: new Uint8Array(40).fill(5),
  tag: new Uint8Array(16).fill(6)
}

const changed = (change: Record<string, unknown>): Uint8Array =>
  utf8(JSON.stringify({ ...CredentialFile.toJson(content), ...change }))

const envelopeText = text(CredentialFile.encodeEnvelope(envelope)) ?? ""

describe("CredentialFile content", () => {
  it("has exactly the promised keys, times in ISO 8601 UTC", () => {
    const json = CredentialFile.toJson(content)
    assert.deepStrictEqual(Object.keys(json), [
      "version",
      "type",
      "protocol_version",
      "connection_id",
      "server_id",
      "server_name",
      "server_public_ip",
      "server_udp_port",
      "candidates",
      "shared_secret",
      "server_public_key",
      "bootstrap_key_id",
      "timestamp",
      "valid_from",
      "valid_until",
      "next_rotation",
      "grace_period",
      "nat_traversal"
    ])
    assert.strictEqual(json.valid_from, "2026-03-01T12:00:00.123Z")
    assert.strictEqual(json.shared_secret, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=")
  })

  it("survives the round trip to the millisecond", () => {
    const decoded = CredentialFile.decodeContent(CredentialFile.encodeContent(content))
    assert.deepStrictEqual(decoded, { _tag: "Content", content })
    assert.strictEqual(CredentialFile.slot(content), NOW)
  })

  it("takes relays with their tickets, and without as older files had them", () => {
    const ticket = new Uint8Array(104).fill(9)
    const rendezvous = [{ server: "192.0.2.9:3479", ticket }, "192.0.2.10:3479"]
    const full = { ...content, nat_traversal: { ...content.nat_traversal, rendezvous } }
    const decoded = CredentialFile.decodeContent(CredentialFile.encodeContent(full))
    assert.deepStrictEqual(decoded, { _tag: "Content", content: full })
    for (const wrong of [{ server: "192.0.2.9:3479" }, { server: "192.0.2.9:3479", ticket: "AAAA" }, 7]) {
      const nat_traversal = { stun: [], turn: [], rendezvous: [wrong], timeout: 60 }
      assert.strictEqual(CredentialFile.decodeContent(changed({ nat_traversal }))._tag, "Foreign")
    }
  })

  it("passes over unknown keys, but not any number of them", () => {
    assert.deepStrictEqual(CredentialFile.decodeContent(changed({ future: { a: [1] } })), { _tag: "Content", content })
    const many = Object.fromEntries(Array.from({ length: 64 }, (_, i) => [`k${i}`, i]))
    assert.strictEqual(CredentialFile.decodeContent(changed(many))._tag, "Foreign")
  })

  it("names versions it does not speak", () => {
    assert.deepStrictEqual(CredentialFile.decodeContent(changed({ version: 2 })), { _tag: "Unsupported", version: 2 })
    assert.deepStrictEqual(CredentialFile.decodeContent(changed({ protocol_version: 9, server_id: 1 })), {
      _tag: "Unsupported",
      version: 9
    })
  })

  it.each<[string, Record<string, unknown>]>([
    ["another type", { type: "key" }],
    ["a short secret", { shared_secret: "AAAA" }],
    ["an id that is not hexadecimal", { connection_id: "zz112233445566778899aabbccddeeff" }],
    ["a port of 0", { server_udp_port: 0 }],
    ["a host name", { server_public_ip: "example.org" }],
    ["a local time", { valid_from: "2026-03-01T12:00:00+01:00" }],
    ["a thirteenth month", { valid_from: "2026-13-01T12:00:00Z" }],
    ["an end before its beginning", { valid_until: "2026-03-01T11:00:00Z" }],
    ["a name with an escape sequence", { server_name: "\u001b[2Jhome" }],
    ["too many candidates", { candidates: Array.from({ length: 65 }, () => content.candidates[0]) }]
  ])("refuses %s", (_, change) => {
    assert.strictEqual(CredentialFile.decodeContent(changed(change))._tag, "Foreign")
  })

  it("lists each endpoint once, the announced one first", () => {
    assert.deepStrictEqual(CredentialFile.endpoints(content), [
      { host: "192.0.2.1", port: 50_000 },
      { host: "2001:db8::1", port: 50_001 }
    ])
  })

  it("tolerates 30 s of skew on either side and not a millisecond more", () => {
    const { valid_from: from, valid_until: until } = content
    const at = [from - 30_001, from - 30_000, until + 30_000, until + 30_001]
    assert.deepStrictEqual(
      at.map((now) => CredentialFile.validity(content, now)),
      ["NotYetValid", "Valid", "Valid", "Expired"]
    )
  })
})

describe("CredentialFile envelope", () => {
  it("survives the round trip with both derivations", () => {
    for (const kdf of [
      CredentialFile.DEFAULT_KDF,
      { name: "argon2id", memoryKib: 8192, passes: 1, parallelism: 4 } as const
    ]) {
      const decoded = CredentialFile.decodeEnvelope(CredentialFile.encodeEnvelope({ ...envelope, kdf }))
      assert.deepStrictEqual(decoded, { _tag: "Envelope", envelope: { ...envelope, kdf } })
    }
  })

  it("has the promised keys", () => {
    assert.deepStrictEqual(Object.keys(JSON.parse(envelopeText)).sort(), [
      "algorithm",
      "ciphertext",
      "iv",
      "kdf",
      "salt",
      "tag",
      "version"
    ])
  })

  it("reads white space that a courier added", () => {
    const pretty = `${JSON.stringify(JSON.parse(envelopeText), null, 2)}\r\n`
    assert.deepStrictEqual(CredentialFile.decodeEnvelope(utf8(pretty)), { _tag: "Envelope", envelope })
  })

  it.each<[string, unknown]>([
    ["99,999 rounds", { name: "pbkdf2-hmac-sha256", parameters: { iterations: 99_999 } }],
    ["10,000,001 rounds", { name: "pbkdf2-hmac-sha256", parameters: { iterations: 10_000_001 } }],
    ["half a round", { name: "pbkdf2-hmac-sha256", parameters: { iterations: 600_000.5 } }],
    ["too little memory", { name: "argon2id", parameters: { memory_kib: 8191, passes: 1, parallelism: 1 } }],
    ["too much memory", { name: "argon2id", parameters: { memory_kib: 1_048_577, passes: 1, parallelism: 1 } }],
    ["no pass", { name: "argon2id", parameters: { memory_kib: 8192, passes: 0, parallelism: 1 } }],
    ["17 passes", { name: "argon2id", parameters: { memory_kib: 8192, passes: 17, parallelism: 1 } }],
    ["17 lanes", { name: "argon2id", parameters: { memory_kib: 8192, passes: 1, parallelism: 17 } }],
    ["a derivation of another name", { name: "scrypt", parameters: { iterations: 600_000 } }],
    ["an unknown parameter", { name: "pbkdf2-hmac-sha256", parameters: { iterations: 600_000, extra: 1 } }]
  ])("refuses %s", (_, kdf) => {
    const file = JSON.stringify({ ...JSON.parse(envelopeText), kdf })
    assert.deepStrictEqual(CredentialFile.decodeEnvelope(utf8(file)), { _tag: "Damaged" })
  })

  it("accepts the bounds themselves", () => {
    for (const kdf of [
      { name: "pbkdf2-hmac-sha256", iterations: 100_000 },
      { name: "pbkdf2-hmac-sha256", iterations: 10_000_000 },
      { name: "argon2id", memoryKib: 8192, passes: 1, parallelism: 1 },
      { name: "argon2id", memoryKib: 1_048_576, passes: 16, parallelism: 16 }
    ]) {
      assert.isTrue(CredentialFile.isKdf(kdf), JSON.stringify(kdf))
    }
  })

  it("refuses base64 that spells the same bytes otherwise, unknown keys, and what is no envelope", () => {
    const json = JSON.parse(envelopeText)
    const twin = (json.tag as string).replace(/.==$/, (end) => `${String.fromCharCode(end.charCodeAt(0) + 1)}==`)
    assert.notStrictEqual(twin, json.tag)
    for (const file of [
      { ...json, tag: twin },
      { ...json, extra: 1 },
      { ...json, iv: "" }
    ]) {
      assert.strictEqual(CredentialFile.decodeEnvelope(utf8(JSON.stringify(file)))._tag, "Damaged")
    }
    for (const file of ["", "{}", "null", "hello", '{"version":1}']) {
      assert.strictEqual(CredentialFile.decodeEnvelope(utf8(file))._tag, "Foreign", file)
    }
  })

  it("never throws, whatever it is given", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.oneof(FastCheck.uint8Array({ maxLength: 400 }), FastCheck.json().map(utf8)),
        (bytes) => {
          assert.notStrictEqual(CredentialFile.decodeEnvelope(bytes)._tag, "Envelope")
          assert.notStrictEqual(CredentialFile.decodeContent(bytes)._tag, "Content")
        }
      ),
      { seed: 1, numRuns: 500 }
    )
    const deep = utf8("[".repeat(CredentialFile.MAX_FILE_LENGTH))
    assert.strictEqual(CredentialFile.decodeEnvelope(deep)._tag, "Foreign")
    assert.strictEqual(CredentialFile.decodeContent(deep)._tag, "Foreign")
    const whole = text(CredentialFile.encodeContent(content)) ?? ""
    for (const [levels, outcome] of [
      [20, "Content"],
      [20_000, "Foreign"]
    ] as const) {
      const nested = `${whole.slice(0, -1)},"metadata":{"a":${"[".repeat(levels)}"]"${"]".repeat(levels)}}}`
      assert.strictEqual(CredentialFile.decodeContent(utf8(nested))._tag, outcome)
    }
    const balanced = "[".repeat(30_000) + "]".repeat(30_000)
    const file = utf8(envelopeText.replace('"algorithm":', `"x":${balanced},"algorithm":`))
    assert.strictEqual(CredentialFile.decodeEnvelope(file)._tag, "Damaged")
  })
})

describe("Device.admissions", () => {
  const file: Device.LiveCredential = {
    id: new Uint8Array(16).fill(9),
    psk: new Uint8Array(32).fill(8),
    validFrom: NOW,
    validUntil: NOW + 660_000
  }
  const device = Device.make({
    id: hex(file.id),
    name: "phone",
    role: "owner",
    staticKey: new Uint8Array(32).fill(3),
    psk: new Uint8Array(32).fill(4),
    enrolledAt: NOW,
    credentialValidUntil: file.validUntil
  })

  it("lets anyone come with a fresh file, for its time and the skew", () => {
    assert.deepStrictEqual(Device.admissions([file], []), [
      { id: file.id, psk: file.psk, slot: NOW, staticKey: undefined, validUntil: NOW + 690_000 }
    ])
  })

  it("ties a burnt file to the key that it enrolled, and the device to its own secret", () => {
    const [own, burnt] = Device.admissions([file], [device])
    assert.deepStrictEqual(own, {
      id: file.id,
      psk: device.psk,
      slot: undefined,
      staticKey: device.staticKey,
      validUntil: Number.POSITIVE_INFINITY
    })
    assert.deepStrictEqual(burnt?.staticKey, device.staticKey)
  })

  it("ties the file of a revoked or unreadable device to a key that nobody has", () => {
    const nobody = new Uint8Array(32)
    for (const list of [
      Device.admissions([file], [Device.revoke(device, NOW)]),
      Device.admissions([file], [], [device.id])
    ]) {
      assert.strictEqual(list.length, 1)
      assert.deepStrictEqual(list[0]?.staticKey, nobody)
    }
  })
})
