/**
 * What a server puts on record: who came, who was turned away, what changed. One JSON object a line in the audit log, one
 * line of `key=value` in the journal. There is no field in which a secret could stand: devices and credential files are
 * named by their ids, and of datagrams that prove nothing only numbers are kept, for their sources may be made up.
 */
import * as Schema from "effect/Schema"
import { DeviceId } from "./Device.ts"
import * as Printable from "./Printable.ts"

/** ISO 8601 in UTC with milliseconds: as text in the order of time. */
const At = Schema.String.check(Schema.isPattern(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/))
const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))

/** A device's, or its file's: 32 hexadecimal digits. */
const device = DeviceId
/** `host:port` of somebody who has proved a credential. */
const source = Schema.String
const name = Schema.String
/** Who asked for it: the home of the server, or the id of a device. */
const by = Schema.String

const event = <const Kind extends string, Fields extends Schema.Struct.Fields>(kind: Kind, fields: Fields) =>
  Schema.Struct({
    at: At,
    kind: Schema.Literal(kind),
    /** Unusual: somebody should look at it. */
    alert: Schema.optionalKey(Schema.Literal(true)),
    /** So many of its kind in about a minute; amounts are sums, the rest is the last one's. */
    count: Schema.optionalKey(Count),
    ...fields
  })

export const Record = Schema.Union([
  event("server.started", { version: Schema.String, address: Schema.String }),
  event("server.stopped", {}),
  /** A device is in. */
  event("session.opened", { device, name, source }),
  /** The device was heard from another address, and that was proved. */
  event("session.moved", { device, source }),
  event("session.closed", {
    device,
    /** The last one. */
    source,
    durationMs: Count,
    bytesIn: Count,
    bytesOut: Count,
    how: Schema.String
  }),
  /** Somebody with a file was not taken on. */
  event("session.refused", { device, source, why: Schema.String }),
  /** Too many sessions. */
  event("session.full", { device, source }),
  /** A credential was used by somebody whose it is not: a used file, or a device's secret without its key. */
  event("auth.stranger", { device, credential: Schema.Literals(["file", "device"]), source }),
  /** Datagrams that led nowhere, by reason. */
  event("traffic.dropped", {
    dropped: Count,
    seconds: Count,
    perSecond: Count,
    reasons: Schema.Record(Schema.String, Count)
  }),
  event("port.opened", { port: Schema.Int, inSeconds: Count }),
  event("port.closed", { port: Schema.Int }),
  event("port.kept", { port: Schema.Int, why: Schema.String }),
  /** A session's keys were replaced. */
  event("keys.rotated", { device, epoch: Count }),
  /** An answer file was taken: datagrams go to that many addresses, the first of them `source`. */
  event("answer.taken", { device, source, addresses: Count }),
  event("clock.skewed", { device, skewMs: Schema.Int }),
  event("device.enrolled", { device, name, role: Schema.String, source }),
  event("device.renamed", { device, name, by }),
  event("device.revoked", { device, name, by }),
  event("credential.issued", { credential: device, validUntil: At }),
  /** All keys of the server are burnt (`all`), or one device is locked out. */
  event("compromised", { scope: Schema.Literals(["all", "device"]), by })
])
export type Record = typeof Record.Type
export type Kind = Record["kind"]

export const KINDS: ReadonlyArray<Kind> = Record.members.map(({ fields }) => fields.kind.literal)

type Without<A, Keys extends PropertyKey> = A extends unknown ? Omit<A, Keys> : never
/** What happened, before it is known when and how often. */
export type Event = Without<Record, "at" | "count">

/** A line of the audit log. */
export const Line = Schema.fromJsonString(Record)

/** Whose event it is: what one of them does at will must not keep the others off the record. */
export const subject = (event: Event): string => ("device" in event ? event.device : "by" in event ? event.by : "")

/** Two of a kind and subject as one. */
export const merge = (first: Event, last: Event): Event => {
  const alert = first.alert === true || last.alert === true ? { alert: true as const } : {}
  return first.kind === "session.closed" && last.kind === "session.closed"
    ? {
        ...last,
        ...alert,
        durationMs: first.durationMs + last.durationMs,
        bytesIn: first.bytesIn + last.bytesIn,
        bytesOut: first.bytesOut + last.bytesOut
      }
    : { ...last, ...alert }
}

const PLAIN = /^[\w.:/[\]+-]+$/
const word = (value: unknown): string => {
  const text = String(value)
  return PLAIN.test(text) ? text : JSON.stringify(text)
}

const SHORT_ID = 8

/** `kind key=value ...`, fit for a journal and for a terminal; ids are cut to what people need. */
export const text = ({ at: _, kind, ...fields }: Record): string => {
  const words: Array<string> = [kind]
  for (const [key, value] of Object.entries(fields)) {
    if (typeof value === "object") {
      for (const [inner, count] of Object.entries(value)) words.push(`${inner}=${word(count)}`)
    } else if (key === "device" || key === "credential" || key === "by") {
      words.push(`${key}=${word(String(value).slice(0, SHORT_ID))}`)
    } else words.push(`${key}=${word(value)}`)
  }
  return Printable.line(words.join(" "))
}
