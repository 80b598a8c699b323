/**
 * The nonces of initiations already answered, on disk: 38 bytes each, appended before the answer leaves, so that a server
 * that comes back after a crash still answers no replay. Appends are not fsynced: after a power loss one replay may draw
 * one answer, which proves nothing and opens nothing.
 *
 *     credential id 16 | slot u64 | hint u16 | nonce 12
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SeenNonce } from "../domain/protocol/Admissions.ts"
import { CREDENTIAL_ID_LENGTH } from "../domain/protocol/Constants.ts"
import { concat, Reader, Writer } from "../domain/protocol/Cursor.ts"
import { slotOf } from "../domain/protocol/KeySchedule.ts"
import { NONCE_LENGTH } from "../domain/protocol/Primitives.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"

const RECORD_LENGTH = CREDENTIAL_ID_LENGTH + 8 + 2 + NONCE_LENGTH
/** Appended records after which the file is rewritten without those that no slot accepts any more. */
const REWRITE_AFTER = 4096
/** Slots of `.sec` files are times in ms; those of devices count five minutes: far below any such time. */
const FILE_SLOTS_FROM = 1_000_000_000_000
/** Milliseconds a file's nonces are kept: longer than any file is valid. */
const FILE_KEEP_MS = 86_400_000

const encode = ({ hint, id, nonce, slot }: SeenNonce): Uint8Array =>
  new Writer(new Uint8Array(RECORD_LENGTH)).put(id).u64(slot).u16(hint).put(nonce).bytes

const decode = (bytes: Uint8Array): ReadonlyArray<SeenNonce> => {
  const out: Array<SeenNonce> = []
  // A torn last record is an append that a crash cut short: its answer never left.
  for (let at = 0; at + RECORD_LENGTH <= bytes.length; at += RECORD_LENGTH) {
    const reader = new Reader(bytes, at, at + RECORD_LENGTH)
    const id = reader.copy(CREDENTIAL_ID_LENGTH)
    const slot = reader.u64()
    const hint = reader.u16()
    out.push({ id, slot, hint, nonce: reader.copy(NONCE_LENGTH) })
  }
  return out
}

const isFresh = (seen: SeenNonce, now: number): boolean =>
  seen.slot >= FILE_SLOTS_FROM ? now - seen.slot < FILE_KEEP_MS : seen.slot >= slotOf(now) - 2

/** Opens the log: what earlier processes saw, and how to add to it. */
export const open = Effect.fn("NonceLog.open")(function* (path: string) {
  const store = yield* SecureFileStore
  const bytes = yield* store.read(path, { maxBytes: 64 * 1024 * 1024 })
  const now = yield* Clock.currentTimeMillis
  let kept: Array<SeenNonce> = decode(Option.getOrElse(bytes, () => new Uint8Array(0))).filter((seen) =>
    isFresh(seen, now)
  )
  const seen: ReadonlyArray<SeenNonce> = [...kept]
  let appended = 0
  yield* store.write(path, concat(...kept.map(encode)))

  const remember = Effect.fnUntraced(function* (one: SeenNonce) {
    kept.push(one)
    if (++appended < REWRITE_AFTER) return yield* store.append(path, encode(one))
    const present = yield* Clock.currentTimeMillis
    kept = kept.filter((each) => isFresh(each, present))
    appended = 0
    yield* store.write(path, concat(...kept.map(encode)))
  })
  return { seen, remember }
})
