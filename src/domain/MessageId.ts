/** Ids of messages: random UUIDs in lower case (RFC 9562 section 5.4), made by the client, one per question. */
import { hex } from "./protocol/Cursor.ts"

/** Random bytes that one id takes. */
export const ENTROPY_LENGTH = 16

/** The UUID, version 4, of 16 random bytes. */
export const fromEntropy = (random: Uint8Array): string => {
  const bytes = random.slice(0, ENTROPY_LENGTH)
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80
  const digits = hex(bytes)
  return [
    digits.slice(0, 8),
    digits.slice(8, 12),
    digits.slice(12, 16),
    digits.slice(16, 20),
    digits.slice(20, 32)
  ].join("-")
}
