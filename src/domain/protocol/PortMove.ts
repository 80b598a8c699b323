/**
 * A client's move to the port that its server announced: when it is tried, and until when. Clients spread their moves, so
 * that neither they nor an onlooker see all of them at one moment; a port that does not answer is tried again later.
 */
import { PORT_GRACE_MS, PORT_RETRY_MS, PORT_SPREAD_MS } from "./Constants.ts"

export class PortMove {
  readonly port: number
  /** When to try it; `Infinity` while a try is under way. */
  at: number
  readonly #until: number

  /** The port will be open in `inMs`. `draw` is from [0, 1). */
  constructor(now: number, port: number, inMs: number, draw: number) {
    this.port = port
    const opensAt = now + inMs
    this.at = opensAt + draw * Math.min(PORT_SPREAD_MS, inMs / 2)
    this.#until = opensAt + PORT_GRACE_MS
  }

  /** The port did not answer; false when there is no time for another try. */
  again(now: number): boolean {
    this.at = now + PORT_RETRY_MS
    return this.at <= this.#until
  }
}
