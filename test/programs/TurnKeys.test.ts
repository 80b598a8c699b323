import { createHmac } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as TurnCredentials from "../../src/domain/TurnCredentials.ts"
import { stunPrimitives } from "../../src/layers/StunPrimitivesNode.ts"
import * as TurnKeys from "../../src/programs/TurnKeys.ts"
import { layerMemory, SecureFileStore } from "../../src/services/SecureFileStore.ts"

const PATH = "/home/config/turn.credentials"
const SERVERS = [{ host: "turn.example.org", port: 3478 }]
const MARK = "SECRETMARK"
const DAY = 86_400_000
const WALL = Date.UTC(2026, 2, 1, 12)

const load = (file: string | Uint8Array | undefined, configured: TurnCredentials.Parts = {}, servers = SERVERS) =>
  Effect.gen(function* () {
    const store = yield* SecureFileStore
    if (file !== undefined) yield* store.write(PATH, typeof file === "string" ? utf8(file) : file)
    return yield* TurnKeys.load({ configured, path: PATH, servers })
  }).pipe(Effect.provide(layerMemory))

const shown = (login: TurnCredentials.TurnLogin | undefined) =>
  login === undefined
    ? undefined
    : login._tag === "Secret"
      ? [Redacted.value(login.secret)]
      : [Redacted.value(login.username), Redacted.value(login.password)]

const secret = (text: string) => Redacted.make(text)

describe("TURN credentials", () => {
  it.effect("come from the environment, else from the file", () =>
    Effect.gen(function* () {
      const file = "# of our coturn\nusername=alice\npassword='correct # horse'\n"
      const fromFile = Option.getOrThrow(yield* load(file))
      assert.deepStrictEqual(shown(fromFile.login), ["alice", "correct # horse"])
      assert.deepStrictEqual(fromFile.servers, SERVERS)
      const kept = Option.getOrThrow(yield* load("secret=of the file\n"))
      assert.deepStrictEqual(shown(kept.login), ["of the file"])
      const configured = Option.getOrThrow(yield* load(file, { secret: secret("of the environment") }))
      assert.deepStrictEqual(shown(configured.login), ["of the environment"])
    })
  )

  it.effect("are not asked for where no server is named", () =>
    Effect.gen(function* () {
      assert.isTrue(Option.isNone(yield* load("nonsense", { username: secret("alone") }, [])))
    })
  )

  const wrong: ReadonlyArray<readonly [string, string | Uint8Array | undefined, TurnCredentials.Parts, RegExp]> = [
    ["nothing at all", undefined, {}, /No credentials for the TURN server turn\.example\.org:3478: put username=/],
    ["an empty file", "# later\n", {}, /No credentials/],
    ["a name alone", "username=alice\n", {}, /turn\.credentials: the username is there, the password is not$/],
    [
      "a password alone",
      undefined,
      { password: secret(MARK) },
      /CLAWCHAT_TURN_\*: the password is there, the username is not$/
    ],
    ["both kinds", `secret=${MARK}\nusername=alice\n`, {}, /give a secret, or a username with its password, not both$/],
    ["another key", `token=${MARK}\n`, {}, /line 1: expected username=, password= or secret=$/],
    ["no assignment", `${MARK}\n`, {}, /line 1: expected NAME=value$/],
    ["twice", `secret=${MARK}\nsecret=${MARK}2\n`, {}, /line 2: already set in line 1$/],
    ["too long", `secret=${MARK.repeat(30)}\n`, {}, /line 1: expected one line of at most 256 characters$/],
    ["no text", Uint8Array.of(0xff, 0xfe, 0x41), {}, /not UTF-8 text$/]
  ]
  for (const [name, file, configured, message] of wrong) {
    it.effect(`${name}: one line says what is wrong, without any secret`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(load(file, configured))
        assert.match(error.message, message)
        assert.notInclude(error.message, MARK)
        assert.notInclude(error.message, "\n")
      })
    )
  }
})

describe("minted names", () => {
  const login: TurnCredentials.TurnLogin = { _tag: "Secret", secret: secret("shared") }

  it("are what coturn computes", () => {
    const { password, username } = TurnCredentials.mint(stunPrimitives, secret("shared"), "device", 1_800_000_000_999)
    assert.strictEqual(username, "1800000000:device")
    assert.strictEqual(password, createHmac("sha1", "shared").update(username).digest("base64"))
  })

  it("are the same all day, good for a day or more, and another the next day", () => {
    const own = (wall: number) => TurnCredentials.own(stunPrimitives, login, wall).username
    const midnight = Date.UTC(2026, 2, 2)
    assert.strictEqual(own(WALL), own(midnight - 1))
    assert.notStrictEqual(own(WALL), own(midnight))
    for (const wall of [WALL, midnight - 1, midnight]) {
      const until = Number(own(wall).split(":")[0]) * 1000
      assert.isTrue(until - wall >= DAY && until - wall <= 2 * DAY)
    }
  })

  it("a device's are good for 30 days and name the device", () => {
    const [one] = TurnKeys.ofDevice(stunPrimitives, { servers: SERVERS, login }, "ab".repeat(16), WALL)
    assert.strictEqual(one?.server, "turn.example.org:3478")
    const [until, whose] = one?.username.split(":") ?? []
    assert.strictEqual(whose, "ab".repeat(16))
    assert.isTrue(Number(until) * 1000 - WALL >= 30 * DAY && Number(until) * 1000 - WALL <= 31 * DAY)
    const other = TurnKeys.ofDevice(stunPrimitives, { servers: SERVERS, login }, "cd".repeat(16), WALL)
    assert.notStrictEqual(other[0]?.password, one?.password)
  })

  it("without a secret our own are given", () => {
    const plain: TurnCredentials.TurnLogin = { _tag: "Password", username: secret("alice"), password: secret("horse") }
    assert.deepStrictEqual(TurnKeys.ofDevice(stunPrimitives, { servers: SERVERS, login: plain }, "", WALL), [
      { server: "turn.example.org:3478", username: "alice", password: "horse" }
    ])
  })
})
