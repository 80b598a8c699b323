import * as Fs from "node:fs"
import * as Path from "node:path"
import { pathToFileURL } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { assertFails, assertNoStacks, inWorld, readOr, secrets, Tiers } from "./Tiers.ts"

interface Record {
  readonly at: string
  readonly kind: string
  readonly device?: string
  readonly by?: string
  readonly count?: number
  readonly bytesIn?: number
  readonly bytesOut?: number
  readonly how?: string
  readonly source?: string
  readonly skewMs?: number
}

const parse = (text: string): ReadonlyArray<Record> =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line))

const logOf = (home: string): string => Path.join(home, "logs/audit.log")

/** The environment of a process whose clock is off. */
const shifted = (ms: number) => ({
  NODE_OPTIONS: `--import=${pathToFileURL(Path.join(import.meta.dirname, "ShiftedClock.mjs")).href}`,
  CLOCK_SHIFT_MS: String(ms)
})
const HOUR = 3_600_000

describe("The record", () => {
  it(
    "tells the owner who came and what changed, at the server and over the line, and nobody else",
    inWorld(async (world) => {
      const tiers = await Tiers.start(world)
      const owner = await tiers.pair("owner")
      const member = await tiers.pair("member")
      await world.ok(["ping", "--home", owner, "--count", "2"])

      const here = parse((await world.ok(["audit", "--home", tiers.home, "--json"])).stdout)
      const kinds = here.map(({ kind }) => kind)
      assert.strictEqual(kinds[0], "server.started")
      assert.include(kinds, "credential.issued")
      const enrolled = here.filter(({ kind }) => kind === "device.enrolled")
      assert.lengthOf(enrolled, 2)
      const mine = enrolled[0]?.device
      const session = here.find(({ device, kind }) => kind === "session.closed" && device === mine)
      assert.isAbove(session?.bytesIn ?? 0, 100)
      // A pairing may need no more than one short datagram of the server after its answer.
      assert.isAbove(session?.bytesOut ?? 0, 40)
      assert.match(session?.source ?? "", /^127\.0\.0\.1:\d+$/)
      assert.strictEqual(session?.how, "by the device: GoingAway")

      // The same over the line for the owner's device; for another one not a word.
      const there = parse((await world.ok(["audit", "--home", owner, "--json"])).stdout)
      assert.deepStrictEqual(there.slice(0, here.length), here)
      assertFails(await world.run(["audit", "--home", member]), 4, /only the owner's device may read the record/)

      const text = (await world.ok(["audit", "--home", tiers.home, "--kind", "device"])).stdout
      assert.match(
        text,
        /^\d{4}-\S+Z {3}device\.enrolled device=[0-9a-f]{8} name=\S+ role=owner source=127\.0\.0\.1:\d+$/m
      )
      assert.notMatch(text, /session/)
      const limited = await world.ok([
        "audit",
        "--home",
        tiers.home,
        "--json",
        "--limit",
        "1",
        "--kind",
        "device.enrolled"
      ])
      assert.deepStrictEqual(parse(limited.stdout), enrolled.slice(1))
      assert.strictEqual((await world.ok(["audit", "--home", tiers.home, "--since", "2999-01-01"])).stdout, "")
      for (const flags of [
        ["--since", "soon"],
        ["--kind", "gossip"],
        ["--limit", "0"]
      ]) {
        assertFails(await world.run(["audit", "--home", tiers.home, ...flags]), 2, new RegExp(flags[0] ?? ""))
      }

      // It is read without a server too, and holds nothing that opens anything.
      const theirs = enrolled[1]?.device ?? ""
      await world.ok(["devices", "rename", "--home", owner, theirs, "tablet"])
      const exit = await tiers.server.stop()
      assert.strictEqual(exit.code, 0)
      await world.ok(["devices", "revoke", "--home", tiers.home, theirs])
      const after = parse((await world.ok(["audit", "--home", tiers.home, "--json"])).stdout)
      const changes = after.filter(({ kind }) => /^(device\.re|server)/.test(kind))
      assert.deepStrictEqual(
        changes.map(({ by, device, kind }) => [kind, device, by]),
        [
          ["server.started", undefined, undefined],
          ["device.renamed", theirs, mine],
          ["server.stopped", undefined, undefined],
          ["device.revoked", theirs, "home"]
        ]
      )
      assert.strictEqual(Fs.statSync(logOf(tiers.home)).mode & 0o777, 0o600)
      const file = readOr(logOf(tiers.home))
      assert.deepStrictEqual(
        secrets(world).filter((secret) => file.includes(secret)),
        []
      )
      assertNoStacks(world.output())
    })
  )

  it(
    "stays short when a device comes and goes",
    inWorld(async (world) => {
      const tiers = await Tiers.start(world)
      const home = await tiers.pair("restless")
      const visits = 12
      for (let n = 0; n < visits; n += 3) {
        await Promise.all(Array.from({ length: 3 }, () => world.run(["ping", "--home", home, "--count", "1"])))
      }
      await tiers.server.stop()
      const records = parse(readOr(logOf(tiers.home)))
      const opened = records.filter(({ kind }) => kind === "session.opened")
      // The pairing is one of them; a minute may pass, or two.
      assert.isAtMost(opened.length, 11)
      assert.strictEqual(
        opened.reduce((sum, { count = 1 }) => sum + count, 0),
        visits + 1
      )
      const closed = records.filter(({ kind }) => kind === "session.closed")
      assert.strictEqual(
        closed.reduce((sum, { count = 1 }) => sum + count, 0),
        visits + 1
      )
    })
  )
})

describe("A device whose clock is wrong", () => {
  it(
    "by eleven hours connects, and its owner is told on both ends",
    inWorld(async (world) => {
      const tiers = await Tiers.start(world)
      const words = (hours: number) =>
        new RegExp(
          `^warning: this device's clock is about 11 h ${hours < 0 ? "behind" : "ahead of"} the server's`,
          "gm"
        )
      const skews = () =>
        parse(readOr(logOf(tiers.home))).flatMap(({ skewMs }) => (skewMs === undefined ? [] : [skewMs]))

      for (const hours of [-11, 11]) {
        const env = shifted(hours * HOUR)
        const home = await tiers.pair(`off${hours}`)
        const status = await world.ok(["status", "--home", home, "--json"], { env })
        assert.lengthOf(status.stderr.match(words(hours)) ?? [], 1)
        assert.strictEqual(JSON.parse(status.stdout).tier, "server")
        assert.isBelow(Math.abs((skews().at(-1) ?? 0) - hours * HOUR), 60_000)
        if (hours > 0) continue
        const asked = await world.ok(["chat", "--home", home, "hello"], { env })
        assert.lengthOf(asked.stderr.match(words(hours)) ?? [], 1)
        assert.notMatch(asked.stdout, /clock/)
        const piped = await world.ok(["chat", "--home", home], { env, input: "one\ntwo\n" })
        assert.lengthOf(piped.stderr.match(words(hours)) ?? [], 1)
        const doctor = await world.run(["doctor", "--home", home], { env })
        assert.match(doctor.stdout, /^warn {2}clock +this device's clock is about 11 h/m)
        // With its clock set right it comes in again, and nothing more is said.
        const right = await world.ok(["status", "--home", home])
        assert.strictEqual(right.stderr, "")
      }
    })
  )
})
