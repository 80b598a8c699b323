/**
 * How we come in at a TURN server: with a user's name and password, or with a secret that we share with it, from which both
 * sides make names that are good for a time (coturn's `use-auth-secret`, the "REST API" of TURN servers): the name is
 * `seconds since 1970:whose`, the password base64 of its HMAC-SHA1. With a secret a server gives none of its own away.
 */
import * as Base64 from "effect/encoding/Base64"
import * as Redacted from "effect/Redacted"
import * as EnvFile from "./EnvFile.ts"
import { utf8 } from "./protocol/Cursor.ts"
import type { LongTermCredentials } from "./protocol/LongTermAuth.ts"
import type { StunPrimitives } from "./protocol/StunMessage.ts"

/** Characters: what fits into a `.sec` file. */
export const MAX_LENGTH = 256
const DAY_MS = 86_400_000
/** Days for which a device's name is good: as long as it may stay away. */
const DEVICE_DAYS = 30
const OWN_NAME = "clawchat"

export type TurnLogin =
  | {
      readonly _tag: "Password"
      readonly username: Redacted.Redacted<string>
      readonly password: Redacted.Redacted<string>
    }
  | { readonly _tag: "Secret"; readonly secret: Redacted.Redacted<string> }

/** A name of whose, good until `untilMs` (since 1970), and its password. */
export const mint = (
  primitives: StunPrimitives,
  secret: Redacted.Redacted<string>,
  whose: string,
  untilMs: number
): LongTermCredentials => {
  const username = `${Math.floor(untilMs / 1000)}:${whose}`
  const key = utf8(Redacted.value(secret))
  const password = Base64.encode(primitives.hmacSha1(key, utf8(username)))
  key.fill(0)
  return { username, password }
}

/** The end of a whole day, so that all of a day's names are one: an allocation belongs to its name. */
const until = (wall: number, days: number): number => (Math.floor(wall / DAY_MS) + 1 + days) * DAY_MS

const plain = (login: TurnLogin & { readonly _tag: "Password" }): LongTermCredentials => ({
  username: Redacted.value(login.username),
  password: Redacted.value(login.password)
})

/** What we use ourselves at `wall` (ms since 1970). */
export const own = (primitives: StunPrimitives, login: TurnLogin, wall: number): LongTermCredentials =>
  login._tag === "Password" ? plain(login) : mint(primitives, login.secret, OWN_NAME, until(wall, 1))

/** What a device is given at `wall`: our own name and password where there is nothing else, else one for 30 days. */
export const ofDevice = (
  primitives: StunPrimitives,
  login: TurnLogin,
  deviceId: string,
  wall: number
): LongTermCredentials =>
  login._tag === "Password" ? plain(login) : mint(primitives, login.secret, deviceId, until(wall, DEVICE_DAYS))

/** What stands somewhere of a login. */
export interface Parts {
  readonly username?: Redacted.Redacted<string> | undefined
  readonly password?: Redacted.Redacted<string> | undefined
  readonly secret?: Redacted.Redacted<string> | undefined
}

/** Nothing at all, a whole login, or what is wrong with it: the phrase after the place. */
export const fromParts = ({ password, secret, username }: Parts): TurnLogin | string | undefined => {
  if (secret !== undefined) {
    return username === undefined && password === undefined
      ? { _tag: "Secret", secret }
      : "give a secret, or a username with its password, not both"
  }
  if (username === undefined && password === undefined) return undefined
  if (username === undefined) return "the password is there, the username is not"
  if (password === undefined) return "the username is there, the password is not"
  return { _tag: "Password", username, password }
}

type Name = keyof Parts

const isName = (name: string): name is Name => name === "username" || name === "password" || name === "secret"

/** A credentials file: `username=` and `password=`, or `secret=`, one a line, written as in `.env`; no value is shown. */
export const parseFile = (content: string): TurnLogin | string | undefined => {
  const { assignments, problems } = EnvFile.parse(content)
  const [problem] = problems
  if (problem !== undefined) return `line ${problem.line}: ${problem.message}`
  const parts: { [key in Name]?: Redacted.Redacted<string> } = {}
  for (const { line, name, value } of assignments) {
    if (!isName(name)) return `line ${line}: expected username=, password= or secret=`
    if (value.length > MAX_LENGTH || /\p{Cc}/u.test(value)) {
      return `line ${line}: expected one line of at most ${MAX_LENGTH} characters`
    }
    if (value !== "") parts[name] = Redacted.make(value)
  }
  return fromParts(parts)
}
