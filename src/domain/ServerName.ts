/** A server that helps two hosts to meet, as people write it: `stun.example.org:3478`, `192.0.2.1`, `[2001:db8::1]:3478`. */
import { canonicalHost } from "./protocol/AddressCodec.ts"

export interface ServerName {
  /** A DNS name in lower case, or a numeric address in its canonical form. */
  readonly host: string
  readonly port: number
}

/** The port of STUN and TURN over UDP (RFC 8489 section 18.6). */
export const STUN_PORT = 3478

const LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
const NAME = new RegExp(`^(?=.{1,253}$)${LABEL}(?:\\.${LABEL})*\\.?$`)

/** Reads a name; without a port it has `defaultPort`, and without that it is none. */
export const parse = (text: string, defaultPort?: number): ServerName | undefined => {
  const bare = canonicalHost(text)
  if (bare !== undefined) return defaultPort === undefined ? undefined : { host: bare, port: defaultPort }
  const parts = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d{1,5}))?$/.exec(text)
  if (parts === null) return undefined
  const [, v6, name = "", digits] = parts
  const host = v6 === undefined ? hostOf(name.toLowerCase()) : v6.includes(":") ? canonicalHost(v6) : undefined
  const port = digits === undefined ? defaultPort : Number(digits)
  return host === undefined || port === undefined || port < 1 || port > 65535 ? undefined : { host, port }
}

/** What is made of digits and dots must be an address, so that a slip is not looked up as a name. */
const hostOf = (name: string): string | undefined =>
  canonicalHost(name) ?? (NAME.test(name) && !/^[\d.]+$/.test(name) ? name : undefined)

export const format = ({ host, port }: ServerName): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`
