/** What of a server's life goes on record: sessions, ports, files, and who should not have come. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as AuditEvent from "../domain/AuditEvent.ts"
import type * as CredentialFile from "../domain/CredentialFile.ts"
import { format } from "../domain/protocol/Address.ts"
import { CloseCode, type CloseReason } from "../domain/protocol/CloseCode.ts"
import { HINT_SLOT_MS } from "../domain/protocol/Constants.ts"
import { hex } from "../domain/protocol/Cursor.ts"
import { stamp } from "../services/Audit.ts"
import type { Connection, Happening, Notice, TransportError } from "../services/Transport.ts"
import type { AuditTrail } from "./AuditTrail.ts"
import type * as PortRotation from "./PortRotation.ts"

/** A clock that is off by more may keep its device out, but for the sweep. */
const SKEW_MS = HINT_SLOT_MS

/** What the listener noticed. Sessions are told of by `follow`, refusals by who refuses. */
export const noticed = (notice: Notice): AuditEvent.Event | undefined => {
  switch (notice.type) {
    case "Stranger": {
      const { admission, remote } = notice
      const credential = admission.slot === undefined ? "device" : "file"
      return { kind: "auth.stranger", alert: true, device: hex(admission.id), credential, source: format(remote) }
    }
    case "Full":
      return { kind: "session.full", alert: true, device: hex(notice.admission.id), source: format(notice.remote) }
    case "Opened": {
      const { admission, skewMs } = notice.caller
      return Math.abs(skewMs) < SKEW_MS ? undefined : { kind: "clock.skewed", device: hex(admission.id), skewMs }
    }
    case "Refused":
      return undefined
  }
}

export const port = (event: PortRotation.Event): AuditEvent.Event => {
  switch (event.type) {
    case "Opened":
      return { kind: "port.opened", port: event.port, inSeconds: Math.round(event.inMs / 1000) }
    case "Closed":
      return { kind: "port.closed", port: event.port }
    case "PutOff":
      return { kind: "port.kept", port: event.port, why: event.why }
  }
}

export const issued = (content: CredentialFile.CredentialFile): AuditEvent.Event => ({
  kind: "credential.issued",
  credential: content.connection_id,
  validUntil: stamp(content.valid_until)
})

const CODES: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(CloseCode).map(([word, code]) => [code, word])
)

/** Without the peer's words, which could say anything. */
const how = (reason: CloseReason | undefined): string => {
  if (reason === undefined) return "server stopped"
  if (reason.by === "timeout") return reason.what === "idle" ? "idle" : "no answer"
  const why = CODES[reason.code] ?? `code ${reason.code}`
  return `${reason.by === "peer" ? "by the device" : "by the server"}: ${why}`
}

/**
 * Puts a connection on record: now, whenever it moves or changes its keys, and at the end of the scope. What else happens to
 * it is given to `other`. Never ends.
 */
export const follow = Effect.fnUntraced(function* (
  { note }: Pick<AuditTrail, "note">,
  connection: Connection,
  other: (event: Happening) => Effect.Effect<void>
) {
  const device = connection.credential
  const openedAt = yield* Clock.currentTimeMillis
  let source = format(yield* connection.remote)
  yield* note({ kind: "session.opened", device, name: connection.deviceName, source })
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      const durationMs = Math.max(0, (yield* Clock.currentTimeMillis) - openedAt)
      const { receivedBytes, sentBytes } = yield* connection.stats
      // Its readers may be told of the end a moment before it is.
      const reason = yield* Effect.raceFirst(connection.closed, Effect.andThen(Effect.yieldNow, Effect.undefined))
      const amounts = { durationMs: Math.round(durationMs), bytesIn: receivedBytes, bytesOut: sentBytes }
      yield* note({ kind: "session.closed", device, source, ...amounts, how: how(reason) })
    })
  )
  const one = (event: Happening): Effect.Effect<void> => {
    switch (event.type) {
      case "PathChanged":
        source = format(event.remote)
        return note({ kind: "session.moved", device, source })
      case "Rekeyed":
        return note({ kind: "keys.rotated", device, epoch: event.epoch })
      default:
        return other(event)
    }
  }
  const followed: Effect.Effect<never, TransportError> = Effect.forever(Effect.flatMap(connection.happened, one))
  return yield* followed
})
