/**
 * Addresses as bytes: `family u8 (4 or 6) | 4 or 16 bytes | port u16`, and hosts as text. An IPv4 address mapped into
 * IPv6 (::ffff:0:0/96, RFC 4291 section 2.5.5.2) is the IPv4 address, on the wire and as text, so that a dual-stack
 * socket names its peers as others do. IPv6 text is written as RFC 5952 has it. No host names, no zones, no policy on
 * which addresses are sensible.
 */
import type { Address } from "./Address.ts"
import type { Reader, Writer } from "./Cursor.ts"

const IPV4 = 4
const IPV6 = 6

/** The 4 or 16 bytes of a numeric host, 4 for a mapped one, or `undefined` when it is none. */
export const parseHost = (host: string): Uint8Array | undefined => {
  if (!host.includes(":")) return parseIpv4(host)
  const bytes = parseIpv6(host)
  return bytes !== undefined && isMapped(bytes) ? bytes.slice(12) : bytes
}

/** The canonical text of 4 or 16 bytes. */
export const formatHost = (bytes: Uint8Array): string => {
  if (bytes.length === 4) return bytes.join(".")
  return isMapped(bytes) ? bytes.subarray(12).join(".") : formatIpv6(bytes)
}

/** The one form of a host that addresses are compared by, or `undefined` when it is not numeric. */
export const canonicalHost = (host: string): string | undefined => {
  const bytes = parseHost(host)
  return bytes === undefined ? undefined : formatHost(bytes)
}

/** Bytes that `encode` writes: 7 or 19. The host is numeric, or it throws. */
export const encodedLength = (address: Address): number => 3 + hostBytes(address).length

/** Writes an address; a host that is not numeric is the caller's bug and throws. */
export const encode = (writer: Writer, address: Address): void => {
  const host = hostBytes(address)
  writer
    .u8(host.length === 4 ? IPV4 : IPV6)
    .put(host)
    .u16(address.port)
}

/** Reads an address; `undefined` for an unknown family, port 0, or too few bytes. */
export const decode = (reader: Reader): Address | undefined => {
  const family = reader.u8()
  if (family !== IPV4 && family !== IPV6) return undefined
  const host = reader.view(family === IPV4 ? 4 : 16)
  const port = reader.u16()
  return reader.failed || port === 0 ? undefined : { host: formatHost(host), port }
}

const hostBytes = (address: Address): Uint8Array => {
  const bytes = parseHost(address.host)
  if (bytes === undefined) throw new RangeError("AddressCodec: the host is not a numeric address")
  return bytes
}

const isMapped = (bytes: Uint8Array): boolean =>
  bytes[10] === 0xff && bytes[11] === 0xff && bytes.subarray(0, 10).every((byte) => byte === 0)

const parseIpv4 = (host: string): Uint8Array | undefined => {
  const parts = host.split(".")
  if (parts.length !== 4) return undefined
  const bytes = new Uint8Array(4)
  for (const [i, part] of parts.entries()) {
    // No leading zeros: some readers take them for octal (RFC 6943 section 3.1.1).
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined
    bytes[i] = Number(part)
  }
  return bytes
}

const group = (bytes: Uint8Array, i: number): number => ((bytes[2 * i] as number) << 8) | (bytes[2 * i + 1] as number)

/** The 16-bit groups of one side of `::`, or `undefined`; an IPv4 tail makes two of them. */
const parseGroups = (side: string, mayEndInIpv4: boolean): Array<number> | undefined => {
  if (side === "") return []
  const groups: Array<number> = []
  const parts = side.split(":")
  for (const [i, part] of parts.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(Number.parseInt(part, 16))
      continue
    }
    const tail = mayEndInIpv4 && i === parts.length - 1 ? parseIpv4(part) : undefined
    if (tail === undefined) return undefined
    groups.push(group(tail, 0), group(tail, 1))
  }
  return groups
}

const parseIpv6 = (host: string): Uint8Array | undefined => {
  if (host.length > 45) return undefined
  const sides = host.split("::")
  if (sides.length > 2) return undefined
  const compressed = sides.length === 2
  const head = parseGroups(sides[0] as string, !compressed)
  const tail = compressed ? parseGroups(sides[1] as string, true) : []
  if (head === undefined || tail === undefined) return undefined
  const missing = 8 - head.length - tail.length
  if (compressed ? missing < 1 : missing !== 0) return undefined
  const bytes = new Uint8Array(16)
  for (const [i, value] of [...head, ...new Array<number>(missing).fill(0), ...tail].entries()) {
    bytes[2 * i] = value >> 8
    bytes[2 * i + 1] = value & 0xff
  }
  return bytes
}

const formatIpv6 = (bytes: Uint8Array): string => {
  const groups = Array.from({ length: 8 }, (_, i) => group(bytes, i))
  let bestStart = 0
  let bestLength = 0
  for (let i = 0; i < 8; i++) {
    let length = 0
    while (groups[i + length] === 0) length++
    if (length > bestLength) {
      bestStart = i
      bestLength = length
    }
  }
  const texts = groups.map((value) => value.toString(16))
  // A lone zero group is written out (RFC 5952 section 4.2.2).
  if (bestLength < 2) return texts.join(":")
  return `${texts.slice(0, bestStart).join(":")}::${texts.slice(bestStart + bestLength).join(":")}`
}
