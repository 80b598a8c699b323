/** Bytes in JSON: fixed lengths, as base64 or as hexadecimal digits. */
import * as Schema from "effect/Schema"

const ofLength = (length: number) =>
  Schema.makeFilter((bytes: Uint8Array) => bytes.length === length, { expected: `${length} bytes` })

/** Exactly `length` bytes, base64 in JSON. */
export const base64 = (length: number) => Schema.Uint8ArrayFromBase64.check(ofLength(length))

/** Exactly `length` bytes, hexadecimal digits in JSON. */
export const hex = (length: number) => Schema.Uint8ArrayFromHex.check(ofLength(length))

/** One line of text without control characters, 1 to `max` UTF-16 units. */
export const line = (max: number) =>
  Schema.String.check(Schema.isBetweenLength(1, max), Schema.isPattern(/^[^\p{Cc}\p{Zl}\p{Zp}]*$/u))
