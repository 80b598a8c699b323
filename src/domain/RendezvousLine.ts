/**
 * The one line by which a server learns of a relay: `clawchat-rendezvous:v1:HOST:PORT:KEY`, HOST a numeric address (IPv6 in
 * brackets), KEY 32 bytes in base64url. Secret: whoever has it can make tickets.
 */
import * as Base64Url from "effect/encoding/Base64Url"
import * as Result from "effect/Result"
import { type Address, format as formatAddress } from "./protocol/Address.ts"
import { canonicalHost } from "./protocol/AddressCodec.ts"
import { SECRET_LENGTH } from "./protocol/Constants.ts"
import * as ServerName from "./ServerName.ts"

const PREFIX = "clawchat-rendezvous:v1:"

export interface Pairing {
  readonly relay: Address
  /** 32 bytes. */
  readonly key: Uint8Array
}

export const format = ({ key, relay }: Pairing): string => `${PREFIX}${formatAddress(relay)}:${Base64Url.encode(key)}`

/** `undefined` for anything that is not such a line. */
export const parse = (line: string): Pairing | undefined => {
  const text = line.trim()
  const end = text.lastIndexOf(":")
  if (!text.startsWith(PREFIX) || end < PREFIX.length) return undefined
  const relay = ServerName.parse(text.slice(PREFIX.length, end))
  const digits = text.slice(end + 1)
  const key = Result.getOrElse(Base64Url.decode(digits), () => new Uint8Array(0))
  const isCanonical = key.length === SECRET_LENGTH && Base64Url.encode(key) === digits
  if (relay === undefined || canonicalHost(relay.host) === undefined || !isCanonical) return undefined
  return { relay: { host: relay.host, port: relay.port }, key }
}
