/**
 * Whether closed UDP ports of this host are silent to the outside, as a default-drop firewall makes them, or answer with
 * ICMP "port unreachable", which tells a scanner that somebody is at home. A STUN server that knows RESPONSE-PORT (RFC 5780)
 * is asked to answer to a closed port of ours; the system's counter of ICMP messages sent shows what became of that.
 */
import * as Effect from "effect/Effect"
import type { Address } from "../domain/protocol/Address.ts"
import { UdpSocket } from "../services/UdpSocket.ts"
import * as StunQuestion from "./StunQuestion.ts"

/** What outsiders get from a closed port. */
export type ClosedPorts = "silent" | "answer" | "unknown"

/** Of three provocations, answers that are no coincidence: the system limits their rate. */
const ENOUGH = 2

/**
 * `unreachablesSent` is the host's counter, `undefined` where it has none. Right only for a host whose addresses are not
 * translated: else the router's ports are what outsiders see. Takes 2 s. Fails where there is no socket.
 */
export const probe = Effect.fn("ClosedPorts.probe")(function* (
  server: Address,
  unreachablesSent: Effect.Effect<number | undefined>
) {
  const { bind } = yield* UdpSocket
  const host = server.host.includes(":") ? "::" : "0.0.0.0"
  const before = yield* unreachablesSent
  if (before === undefined) return "unknown" satisfies ClosedPorts
  const from = yield* bind({ host, port: 0 })
  const known = yield* StunQuestion.ask({ from, server, responsePort: from.address.port })
  if (StunQuestion.reflexive(known) === undefined) return "unknown" satisfies ClosedPorts
  const closed = yield* Effect.scoped(Effect.map(bind({ host, port: 0 }), ({ address }) => address.port))
  const start = (yield* unreachablesSent) ?? before
  const answer = yield* StunQuestion.ask({ from, server, responsePort: closed })
  const end = (yield* unreachablesSent) ?? start
  // What came here after all was not sent to the closed port.
  if (answer !== undefined) return "unknown" satisfies ClosedPorts
  const found: ClosedPorts = end - start >= ENOUGH ? "answer" : "silent"
  return found
}, Effect.scoped)
