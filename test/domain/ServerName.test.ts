import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as ServerName from "../../src/domain/ServerName.ts"
import * as Kinds from "../../src/domain/SettingKinds.ts"

const context = { home: "/h", resolve: (path: string) => path }

describe("ServerName", () => {
  it("reads names and addresses, with and without a port", () => {
    for (const [text, host, port] of [
      ["stun.example.org:3479", "stun.example.org", 3479],
      ["STUN.Example.ORG", "stun.example.org", 3478],
      ["localhost:1", "localhost", 1],
      ["a_b-c.example", "a_b-c.example", 3478],
      ["192.0.2.1", "192.0.2.1", 3478],
      ["192.0.2.1:65535", "192.0.2.1", 65535],
      ["2001:db8:0::1", "2001:db8::1", 3478],
      ["[2001:db8::1]", "2001:db8::1", 3478],
      ["[2001:DB8::1]:5349", "2001:db8::1", 5349],
      ["[::ffff:192.0.2.1]:5", "192.0.2.1", 5]
    ] as const) {
      assert.deepStrictEqual(ServerName.parse(text, 3478), { host, port }, text)
    }
    assert.isUndefined(ServerName.parse("example.org"))
    assert.isUndefined(ServerName.parse("192.0.2.1"))
    assert.strictEqual(ServerName.format({ host: "2001:db8::1", port: 5 }), "[2001:db8::1]:5")
    assert.strictEqual(ServerName.format({ host: "example.org", port: 5 }), "example.org:5")
  })

  it("refuses the rest", () => {
    const bad = [
      "",
      ":1",
      "a:",
      "a:0",
      "a:65536",
      "a:b",
      "a b",
      "a..b",
      "-a",
      "a-",
      "a/b",
      "stun:a:1",
      "[a]:1",
      "[::1",
      "::1]:1"
    ]
    for (const text of [...bad, "192.0.2.256", "1.2.3", "http://a", `${"a".repeat(64)}.b`, "a\n", "ä.example"]) {
      assert.isUndefined(ServerName.parse(text, 3478), JSON.stringify(text))
    }
  })

  it("lists, as settings have them", () => {
    const { decode } = Kinds.servers(2, 3478)
    const read = (text: string) => Result.getOrElse(decode(text, context), (expected) => expected)
    assert.deepStrictEqual(read("none"), [])
    assert.deepStrictEqual(read("a, b:2"), [
      { host: "a", port: 3478 },
      { host: "b", port: 2 }
    ])
    for (const text of ["", "a,", "a b", "a,b,c"]) {
      assert.strictEqual(read(text), 'at most 2 servers as host:port, separated by commas, or "none"', text)
    }
  })
})
