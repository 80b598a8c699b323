/** The end that we chose: CLOSE is said at once, and again for packets that still come, ever more rarely. */
import { MAX_CLOSE_REASON_LENGTH } from "./Constants.ts"
import { utf8 } from "./Cursor.ts"
import type * as Frame from "./Frame.ts"

export class Farewell {
  readonly #frame: Frame.Close
  #due = true
  #packets = 0
  #answerAt = 1

  /** The reason is cut to what CLOSE carries. */
  constructor(code: number, reason: string) {
    let short = reason
    while (utf8(short).length > MAX_CLOSE_REASON_LENGTH) short = short.slice(0, -1)
    this.#frame = { type: "Close", code, reason: short }
  }

  get reason(): string {
    return this.#frame.reason
  }

  /** The peer has not heard it yet: an answer to the 1st, 2nd, 4th, 8th ... packet. */
  onPacket(): void {
    if (++this.#packets !== this.#answerAt) return
    this.#answerAt *= 2
    this.#due = true
  }

  /** What to say now, if anything. */
  poll(): Frame.Close | undefined {
    if (!this.#due) return undefined
    this.#due = false
    return this.#frame
  }
}
