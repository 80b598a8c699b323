/**
 * Asking a home router for a port: the messages of PCP (RFC 6887) and of NAT-PMP (RFC 6886), which share a server port and
 * are told apart by their first byte. Requests of a client and the answers to them; UDP and IPv4 only. Big-endian.
 *
 * An answer counts only when it repeats what was asked: PCP its nonce, protocol and port, NAT-PMP its operation and port.
 */
import { formatHost, parseHost } from "./AddressCodec.ts"
import { Reader, Writer } from "./Cursor.ts"

/** Where routers listen (RFC 6887 section 19.3, RFC 6886 section 3.1). */
export const PORT_CONTROL_PORT = 5351
/** Bytes of PCP's nonce. */
export const PCP_NONCE_LENGTH = 12

const PCP = 2
const NAT_PMP = 0
const ANNOUNCE = 0
const MAP = 1
const EXTERNAL_ADDRESS = 0
const MAP_UDP = 1
/** Set in answers: by PCP on top of the operation, by NAT-PMP too. */
const ANSWER = 0x80
const UDP = 17
const PCP_HEADER = 24
const PCP_MAP = 60
const UNSUPPORTED_VERSION = 1

/** What is asked for; a lifetime of 0 gives it back. */
export interface MapRequest {
  /** `PCP_NONCE_LENGTH` bytes, the same for as long as the mapping is kept. */
  readonly nonce: Uint8Array
  /** Our IPv4 address as the router sees it. */
  readonly client: string
  readonly port: number
  /** The outside that would be best, or had before. */
  readonly wanted: { readonly host: string | undefined; readonly port: number }
  /** Seconds. */
  readonly lifetime: number
}

/** A mapping as the router gives it, or why not. `host` is absent where the protocol tells it by another message. */
export type MapAnswer =
  | {
      readonly type: "mapped"
      readonly host: string | undefined
      readonly port: number
      /** Seconds. */
      readonly lifetime: number
    }
  | { readonly type: "refused"; readonly why: string }
  /** The router speaks only the other protocol. */
  | { readonly type: "otherVersion" }

const putMapped = (writer: Writer, host: string | undefined): void => {
  const bytes = host === undefined ? undefined : parseHost(host)
  writer
    .fill(0, 10)
    .fill(0xff, 2)
    .put(bytes?.length === 4 ? bytes : new Uint8Array(4))
}

/** PCP's MAP, 60 bytes (section 11.1). */
export const pcpMap = ({ client, lifetime, nonce, port, wanted }: MapRequest): Uint8Array => {
  const writer = new Writer(new Uint8Array(PCP_MAP)).u8(PCP).u8(MAP).u16(0).u32(lifetime)
  putMapped(writer, client)
  writer.put(nonce).u8(UDP).fill(0, 3).u16(port).u16(wanted.port)
  putMapped(writer, wanted.host)
  return writer.bytes
}

/** PCP's ANNOUNCE, 24 bytes: whether there is a server at all (section 14.1). */
export const pcpAnnounce = (client: string): Uint8Array => {
  const writer = new Writer(new Uint8Array(PCP_HEADER)).u8(PCP).u8(ANNOUNCE).u16(0).u32(0)
  putMapped(writer, client)
  return writer.bytes
}

/** NAT-PMP's request for a UDP port, 12 bytes (section 3.3). */
export const natPmpMap = ({ lifetime, port, wanted }: MapRequest): Uint8Array =>
  new Writer(new Uint8Array(12))
    .u8(NAT_PMP)
    .u8(MAP_UDP)
    .u16(0)
    .u16(port)
    .u16(lifetime === 0 ? 0 : wanted.port)
    .u32(lifetime).bytes

/** NAT-PMP's question for the outside address, 2 bytes (section 3.2). */
export const natPmpAddress = (): Uint8Array => Uint8Array.of(NAT_PMP, EXTERNAL_ADDRESS)

/** Section 7.4. */
const PCP_REFUSALS: Readonly<Record<number, string>> = {
  2: "it does not allow this host to",
  3: "it does not understand the request",
  4: "it has port mapping switched off",
  7: "it has no connection itself",
  8: "it has no resources left",
  10: "this host has its quota of mappings",
  11: "it cannot give the port",
  12: "another NAT stands between this host and it"
}
/** Section 3.5. */
const NAT_PMP_REFUSALS: Readonly<Record<number, string>> = {
  2: "it does not allow this host to, or has port mapping switched off",
  3: "it has no connection itself",
  4: "it has no resources left"
}

const refused = (refusals: Readonly<Record<number, string>>, code: number): MapAnswer => ({
  type: "refused",
  why: refusals[code] ?? `it refuses, with code ${code}`
})

/** The answer to a MAP; `undefined` for what is none. Also what a router says that speaks NAT-PMP alone. */
export const decodePcpMap = (bytes: Uint8Array, request: MapRequest): MapAnswer | undefined => {
  const reader = new Reader(bytes)
  const version = reader.u8()
  const operation = reader.u8()
  if (version === NAT_PMP) {
    // RFC 6886 section 3.5: 8 bytes, or whatever an old router makes of an operation it does not know.
    return (operation & ANSWER) !== 0 && reader.u16() === UNSUPPORTED_VERSION && !reader.failed
      ? { type: "otherVersion" }
      : undefined
  }
  if (version !== PCP || operation !== (MAP | ANSWER)) return undefined
  reader.u8()
  const code = reader.u8()
  const lifetime = reader.u32()
  reader.view(16)
  if (reader.failed) return undefined
  if (code === UNSUPPORTED_VERSION) return { type: "otherVersion" }
  const nonce = reader.view(PCP_NONCE_LENGTH)
  const protocol = reader.u8()
  reader.view(3)
  const inside = reader.u16()
  const port = reader.u16()
  const host = formatHost(reader.copy(16))
  const isOurs = nonce.every((byte, i) => byte === request.nonce[i]) && protocol === UDP && inside === request.port
  if (reader.failed || !isOurs) return undefined
  if (code !== 0) return refused(PCP_REFUSALS, code)
  return { type: "mapped", host, port, lifetime }
}

/** Whether there is a PCP server: true or false for an answer to ANNOUNCE, `undefined` for what is none. */
export const decodePcpAnnounce = (bytes: Uint8Array): boolean | undefined => {
  const [version, operation, high, code] = bytes
  if (version === NAT_PMP) return ((operation ?? 0) & ANSWER) !== 0 && bytes.length >= 8 ? false : undefined
  if (version !== PCP || operation !== (ANNOUNCE | ANSWER) || high === undefined || bytes.length < PCP_HEADER) {
    return undefined
  }
  return code === 0
}

export const decodeNatPmpMap = (bytes: Uint8Array, request: MapRequest): MapAnswer | undefined => {
  const reader = new Reader(bytes)
  if (reader.u8() !== NAT_PMP || reader.u8() !== (MAP_UDP | ANSWER)) return undefined
  const code = reader.u16()
  reader.u32()
  if (reader.failed) return undefined
  if (code === UNSUPPORTED_VERSION) return { type: "otherVersion" }
  // Refusals of some routers end here.
  if (code !== 0) return refused(NAT_PMP_REFUSALS, code)
  const inside = reader.u16()
  const port = reader.u16()
  const lifetime = reader.u32()
  return reader.failed || inside !== request.port ? undefined : { type: "mapped", host: undefined, port, lifetime }
}

/** The outside address; `undefined` for what is no answer to that question. */
export const decodeNatPmpAddress = (bytes: Uint8Array): { readonly host: string } | MapAnswer | undefined => {
  const reader = new Reader(bytes)
  if (reader.u8() !== NAT_PMP || reader.u8() !== (EXTERNAL_ADDRESS | ANSWER)) return undefined
  const code = reader.u16()
  reader.u32()
  if (reader.failed) return undefined
  if (code !== 0) return refused(NAT_PMP_REFUSALS, code)
  const host = formatHost(reader.copy(4))
  return reader.failed ? undefined : { host }
}
