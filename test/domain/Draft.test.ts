import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "fast-check"
import { maxTextBytes } from "../../src/domain/ChatRpc.ts"
import * as Draft from "../../src/domain/Draft.ts"
import { utf8 } from "../../src/domain/protocol/Cursor.ts"

const draft = (text: string): Draft.Draft => ({
  version: 1,
  id: "00000000-0000-4000-8000-000000000001",
  created: 1_772_366_400_000,
  server: "0123456789abcdef",
  request: { _tag: "Chat.Send", conversation: "main", text }
})

describe("Draft", () => {
  it("comes back as it was", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.string({ unit: "grapheme" }), (text) => {
        assert.deepStrictEqual(Draft.decode(Draft.encode(draft(text))), { _tag: "Draft", draft: draft(text) })
      }),
      { seed: 1 }
    )
  })

  it("keeps what is attached", () => {
    const attachments = [{ name: "a.png", mediaType: "image/png", bytes: Uint8Array.from([0, 255, 7]) }]
    const whole: Draft.Draft = {
      ...draft("look"),
      request: { _tag: "Chat.Send", conversation: "main", text: "look", attachments }
    }
    assert.deepStrictEqual(Draft.decode(Draft.encode(whole)), { _tag: "Draft", draft: whole })
  })

  it("fits its file at its longest", () => {
    assert.isAtMost(Draft.encode(draft("\x01".repeat(maxTextBytes))).length, Draft.MAX_DRAFT_BYTES)
    assert.isAtMost(Draft.MAX_DRAFT_BYTES, Draft.MAX_DRAFTS_BYTES)
  })

  it("tells what is being removed from what it does not know, and throws at nothing", () => {
    const bytes = Draft.encode(draft("hello"))
    assert.deepStrictEqual(Draft.decode(new Uint8Array(bytes.length)), { _tag: "Gone" })
    assert.deepStrictEqual(Draft.decode(new Uint8Array(0)), { _tag: "Gone" })
    const others = [
      '{"version":2}',
      "[]",
      "{",
      "null",
      JSON.stringify({ ...draft("x"), request: { _tag: "Cron.Add" } })
    ]
    for (const other of others) assert.deepStrictEqual(Draft.decode(utf8(other)), { _tag: "Unknown" }, other)
    FastCheck.assert(
      FastCheck.property(FastCheck.uint8Array(), FastCheck.nat(bytes.length - 1), (noise, at) => {
        const damaged = bytes.slice()
        damaged.set(noise.subarray(0, bytes.length - at), at)
        for (const some of [noise, damaged]) assert.include(["Draft", "Gone", "Unknown"], Draft.decode(some)._tag)
      }),
      { seed: 2 }
    )
  })

  it("has a name that says its place", () => {
    const place = { lane: 3, seq: 42, bytes: 163, id: "00000000-0000-4000-8000-000000000001" }
    assert.deepStrictEqual(Draft.placeOf(Draft.nameOf(place)), place)
    assert.isBelow(Draft.nameOf({ ...place, seq: 9 }).localeCompare(Draft.nameOf({ ...place, seq: 10 })), 0)
    for (const name of ["notes.txt", "3-1-1-x.json", `../${Draft.nameOf(place)}`, `${Draft.nameOf(place)}~`]) {
      assert.isUndefined(Draft.placeOf(name), name)
    }
  })
})
