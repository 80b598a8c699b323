import { assert, describe, it } from "@effect/vitest"
import { Admissions, type Opened } from "../../src/domain/protocol/Admissions.ts"
import * as Constants from "../../src/domain/protocol/Constants.ts"
import type { Admission } from "../../src/domain/protocol/Credential.ts"
import * as Envelope from "../../src/domain/protocol/Envelope.ts"
import * as KeySchedule from "../../src/domain/protocol/KeySchedule.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import { seeded, WALL } from "./Pair.ts"

const SLOT = Constants.HINT_SLOT_MS
const MESSAGE = Uint8Array.of(1, 2, 3)

const device = (seed: string): Admission => {
  const entropy = seeded(seed)
  return {
    id: entropy(16),
    psk: entropy(32),
    slot: undefined,
    staticKey: entropy(32),
    validUntil: Number.POSITIVE_INFINITY
  }
}

const file = (seed: string): Admission => ({
  ...device(seed),
  slot: WALL,
  staticKey: undefined,
  validUntil: WALL + 660_000
})

const nonces = seeded("nonces")

/** An initiation's outer layer; `slot` of a device counts from the slot of `WALL`. */
const initiation = (admission: Admission, hint: number, slot = 0, nonce = nonces(12)): Uint8Array => {
  const at = admission.slot ?? KeySchedule.slotOf(WALL) + slot
  const key = primitives.aeadKey(KeySchedule.envelopeKeys(primitives, admission.psk).initiation)
  return Envelope.sealInitiation(key, KeySchedule.hint(primitives, admission.psk, at, hint), nonce, MESSAGE)
}

const make = (...admissions: ReadonlyArray<Admission>): Admissions => {
  const out = new Admissions(0, primitives)
  out.set(0, WALL, admissions)
  return out
}

/** Opens with an ever full budget. */
let clock = 0
const open = (admissions: Admissions, datagram: Uint8Array, wallMs = WALL): Opened["type"] => {
  clock += 1000
  return admissions.open(clock, wallMs, "192.0.2.1", datagram).type
}

describe("Admissions", () => {
  it("opens what it expects and says whose it was", () => {
    const one = device("one")
    const admissions = make(device("other"), one)
    const opened = admissions.open(0, WALL, "192.0.2.1", initiation(one, 3, 1, new Uint8Array(12).fill(4)))
    assert.strictEqual(opened.type, "opened")
    if (opened.type !== "opened") return
    assert.strictEqual(opened.entry.admission, one)
    assert.deepStrictEqual(opened.message, MESSAGE)
    assert.deepStrictEqual(opened.seen, {
      id: one.id,
      nonce: new Uint8Array(12).fill(4),
      slot: KeySchedule.slotOf(WALL) + 1,
      hint: 3
    })
  })

  it("keeps three slots of a device and one of a file", () => {
    assert.strictEqual(make(device("a")).size, 3 * Constants.HINT_WINDOW)
    assert.strictEqual(make(file("a")).size, Constants.HINT_WINDOW)
    const one = device("one")
    const admissions = make(one)
    assert.deepStrictEqual(
      [-2, -1, 0, 1, 2].map((slot) => open(admissions, initiation(one, 0, slot))),
      ["unknown", "opened", "opened", "opened", "unknown"]
    )
  })

  it("moves with the wall clock, backwards too, and opens no more by a slot that has passed", () => {
    const one = device("one")
    const admissions = make(one)
    const early = initiation(one, 5, 0)
    admissions.advance(WALL + SLOT)
    assert.strictEqual(open(admissions, initiation(one, 6, 0)), "opened")
    admissions.advance(WALL + 2 * SLOT)
    assert.strictEqual(open(admissions, early), "unknown")
    assert.strictEqual(open(admissions, initiation(one, 0, 3)), "opened")
    assert.strictEqual(admissions.size, 3 * Constants.HINT_WINDOW + 1)
    assert.strictEqual(admissions.nonces, 1)
    admissions.advance(WALL)
    assert.strictEqual(open(admissions, initiation(one, 0, 0)), "opened")
    assert.strictEqual(admissions.size, 3 * Constants.HINT_WINDOW + 1)
  })

  it("expects HINT_WINDOW numbers beyond the highest that was used, in each slot for itself", () => {
    const one = device("one")
    const admissions = make(one)
    assert.strictEqual(open(admissions, initiation(one, 16)), "unknown")
    assert.strictEqual(open(admissions, initiation(one, 15)), "opened")
    assert.strictEqual(open(admissions, initiation(one, 31)), "opened")
    assert.strictEqual(open(admissions, initiation(one, 48)), "unknown")
    assert.strictEqual(open(admissions, initiation(one, 2)), "opened")
    assert.strictEqual(open(admissions, initiation(one, 16, 1)), "unknown")
    assert.strictEqual(admissions.size, 2 * Constants.HINT_WINDOW + 48)
  })

  it("keeps at most MAX_HINTS_PER_SLOT, and lets the lowest go", () => {
    const one = file("one")
    const admissions = make(one)
    for (let hint = 15; hint < 300; hint += 16) {
      assert.strictEqual(open(admissions, initiation(one, hint)), "opened")
      assert.isAtMost(admissions.size, Constants.MAX_HINTS_PER_SLOT)
    }
    const highest = 287 + Constants.HINT_WINDOW
    assert.strictEqual(admissions.size, Constants.MAX_HINTS_PER_SLOT)
    assert.strictEqual(open(admissions, initiation(one, highest - Constants.MAX_HINTS_PER_SLOT)), "unknown")
    assert.strictEqual(open(admissions, initiation(one, highest - Constants.MAX_HINTS_PER_SLOT + 1)), "opened")
    assert.strictEqual(open(admissions, initiation(one, highest)), "opened")
  })

  it("tells forged, repeated, expired and over-budget initiations apart", () => {
    const one = file("one")
    const admissions = make(one)
    const forged = initiation(one, 0)
    forged[700] = (forged[700] as number) ^ 1
    assert.strictEqual(open(admissions, forged), "forged")
    const good = initiation(one, 0)
    assert.strictEqual(open(admissions, good), "opened")
    assert.strictEqual(open(admissions, good), "repeated")
    assert.strictEqual(open(admissions, initiation(one, 1), one.validUntil), "opened")
    assert.strictEqual(open(admissions, initiation(one, 1), one.validUntil + 1), "expired")
    const two = device("two")
    const limited = make(two)
    const at = (now: number, hint: number) => limited.open(now, WALL, "192.0.2.1", initiation(two, hint)).type
    const first = Array.from({ length: Constants.DH_CREDENTIAL_BURST + 1 }, (_, hint) => at(0, hint))
    assert.deepStrictEqual(first.slice(-2), ["opened", "over-budget"])
    assert.strictEqual(Constants.DH_CREDENTIAL_PER_SECOND, 4)
    const later = [240, 250, 499, 500].map((now, hint) => at(now, Constants.DH_CREDENTIAL_BURST + hint))
    assert.deepStrictEqual(later, ["over-budget", "opened", "over-budget", "opened"])
  })

  it("spends no budget on what is forged or repeated", () => {
    const one = device("one")
    const admissions = make(one)
    const good = initiation(one, 0)
    const forged = initiation(one, 1)
    forged[1199] = (forged[1199] as number) ^ 0x80
    admissions.open(0, WALL, "192.0.2.1", good)
    for (let i = 0; i < 100; i++) {
      assert.strictEqual(admissions.open(0, WALL, "192.0.2.1", good).type, "repeated")
      assert.strictEqual(admissions.open(0, WALL, "192.0.2.1", forged).type, "forged")
    }
    assert.strictEqual(admissions.open(0, WALL, "192.0.2.1", initiation(one, 2)).type, "opened")
  })

  it("has a budget over all credentials", () => {
    const all = Array.from({ length: 40 }, (_, i) => device(`${i}`))
    const admissions = make(...all)
    const spend = (now: number) =>
      all.flatMap((each) =>
        Array.from(
          { length: 8 },
          (_, hint) => admissions.open(now, WALL, `192.0.${hint}.1`, initiation(each, hint)).type
        )
      )
    assert.strictEqual(spend(0).filter((type) => type === "opened").length, Constants.DH_BUDGET_BURST)
  })

  it("keeps nonces and budget of what stays, and forgets what goes", () => {
    const one = device("one")
    const two = device("two")
    const admissions = make(one, two)
    const good = initiation(one, 0)
    open(admissions, good)
    admissions.set(0, WALL, [{ ...one, staticKey: undefined }])
    assert.strictEqual(open(admissions, good), "repeated")
    assert.strictEqual(open(admissions, initiation(two, 0)), "unknown")
    assert.strictEqual(admissions.size, 3 * Constants.HINT_WINDOW + 1)
    admissions.set(0, WALL, [])
    assert.deepStrictEqual([admissions.size, admissions.nonces], [0, 0])
    assert.strictEqual(open(admissions, initiation(one, 1)), "unknown")
  })

  it("follows a psk that changed", () => {
    const one = device("one")
    const admissions = make(one)
    const fresh = { ...one, psk: new Uint8Array(32).fill(1) }
    admissions.set(0, WALL, [fresh])
    assert.strictEqual(open(admissions, initiation(one, 0)), "unknown")
    assert.strictEqual(open(admissions, initiation(fresh, 0)), "opened")
    assert.strictEqual(admissions.size, 3 * Constants.HINT_WINDOW + 1)
  })

  it("knows a file and the device that it enrolled side by side", () => {
    const burnt = file("one")
    const enrolled = {
      ...burnt,
      slot: undefined,
      psk: new Uint8Array(32).fill(6),
      validUntil: Number.POSITIVE_INFINITY
    }
    const admissions = make(burnt, enrolled)
    assert.strictEqual(open(admissions, initiation(burnt, 0)), "opened")
    assert.strictEqual(open(admissions, initiation(enrolled, 0)), "opened")
  })

  it("brings back what an earlier process had seen, as far as it still matters", () => {
    const one = device("one")
    const before = make(one)
    const datagrams = [0, 15, 31].map((hint) => initiation(one, hint))
    const seen = datagrams.flatMap((datagram) => {
      clock += 1000
      const opened = before.open(clock, WALL, "192.0.2.1", datagram)
      return opened.type === "opened" ? [opened.seen] : []
    })
    assert.strictEqual(seen.length, 3)
    const foreign = { id: new Uint8Array(16), nonce: new Uint8Array(12), slot: KeySchedule.slotOf(WALL), hint: 0 }
    const past = { ...foreign, id: one.id, slot: KeySchedule.slotOf(WALL) - 2 }
    const after = make(one)
    after.restore([...seen, foreign, past])
    assert.deepStrictEqual([after.size, after.nonces], [before.size, 3])
    for (const datagram of datagrams) assert.strictEqual(open(after, datagram), "repeated")
    assert.strictEqual(open(after, initiation(one, 47)), "opened")
  })
})
