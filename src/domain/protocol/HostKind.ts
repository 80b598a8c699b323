/** What kind of numeric address a host is (RFC 6890): for addresses that others tell us, before anything is sent there. */
import { parseHost } from "./AddressCodec.ts"

/** `shared` is the space between a carrier's translator and its customers (RFC 6598). */
export type HostKind =
  | "unspecified"
  | "loopback"
  | "linkLocal"
  | "private"
  | "shared"
  | "multicast"
  | "reserved"
  | "public"

/** The kind of a host; `undefined` for what is no numeric address. */
export const hostKind = (host: string): HostKind | undefined => {
  const bytes = parseHost(host)
  if (bytes === undefined) return undefined
  return bytes.length === 4 ? kindOfIpv4(bytes) : kindOfIpv6(bytes)
}

const kindOfIpv4 = (bytes: Uint8Array): HostKind => {
  const a = bytes[0] as number
  const b = bytes[1] as number
  if (a === 0) return "unspecified"
  if (a === 127) return "loopback"
  if (a === 169 && b === 254) return "linkLocal"
  if (a === 10 || (a === 172 && b >= 16 && b < 32) || (a === 192 && b === 168)) return "private"
  if (a === 100 && b >= 64 && b < 128) return "shared"
  if (a >= 224 && a < 240) return "multicast"
  return a >= 240 ? "reserved" : "public"
}

const kindOfIpv6 = (bytes: Uint8Array): HostKind => {
  const a = bytes[0] as number
  const b = bytes[1] as number
  if (bytes.subarray(0, 15).every((byte) => byte === 0)) {
    const last = bytes[15]
    if (last === 0) return "unspecified"
    if (last === 1) return "loopback"
  }
  if (a === 0xfe && (b & 0xc0) === 0x80) return "linkLocal"
  if ((a & 0xfe) === 0xfc) return "private"
  return a === 0xff ? "multicast" : "public"
}

/** Whether one host of its own may stand behind the address. */
export const isUnicast = (host: string): boolean => {
  const kind = hostKind(host)
  return kind !== undefined && kind !== "unspecified" && kind !== "multicast" && kind !== "reserved"
}

/**
 * Whether `told`, which the host `by` told us, can be the address of somebody out there: unicast, and loopback or
 * link-local only from one who is that itself.
 */
export const isPlausible = (told: string, by: string): boolean => {
  if (!isUnicast(told)) return false
  const kind = hostKind(told)
  return (kind !== "loopback" && kind !== "linkLocal") || kind === hostKind(by)
}
