/** COMPROMISED on real processes: who may do what, what is left of the old, and what takes its place. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import {
  assertFails,
  assertNoStacks,
  freePort,
  hasProc,
  inWorld,
  llmEnv,
  type Result,
  type Running,
  secrets,
  serverArgs,
  Tiers,
  tree,
  udpTable,
  until,
  type World,
  whyNoProc
} from "./Tiers.ts"

/** Milliseconds in which all of it has to be done. */
const LIMIT_MS = 10_000

interface Status {
  readonly pid: number
  readonly address: string
  readonly devices: number
  readonly llm: { readonly connected: boolean }
}

const statusOf = async (world: World, home: string): Promise<Status> =>
  JSON.parse((await world.ok(["status", "--json", "--home", home])).stdout)

const isAlive = (pid: number): boolean => Fs.existsSync(`/proc/${pid}/stat`) && !/\) Z /.test(readStat(pid))
const readStat = (pid: number): string => {
  try {
    return Fs.readFileSync(`/proc/${pid}/stat`, "latin1")
  } catch {
    return ") Z "
  }
}

/** Every secret of the world in each form in which a file might hold it; those of sealed files among them. */
const allSecrets = async (world: World, tiers: Tiers): Promise<ReadonlyArray<string>> => {
  const file = await tiers.credential("unused.sec")
  const shown = await world.ok(["sec", "show", file, "--key-file", tiers.keyFile, "--reveal", "--json"])
  const { shared_secret: psk } = JSON.parse(shown.stdout)
  assert.isString(psk)
  const known = [...secrets(world), psk]
  return [
    ...new Set(
      known.flatMap((secret) => {
        if (!/^[0-9a-f]{64}$/.test(secret)) return [secret]
        const bytes = Buffer.from(secret, "hex")
        return [secret, bytes.toString("base64").replace(/=+$/, ""), bytes.toString("latin1")]
      })
    )
  ]
}

/** Files below a folder that hold one of these secrets. */
const holders = (folder: string, known: ReadonlyArray<string>): ReadonlyArray<string> =>
  Object.entries(tree(folder)).flatMap(([path, content]) => (known.some((one) => content.includes(one)) ? [path] : []))

const assertBurnt = (folder: string, known: ReadonlyArray<string>): void => {
  assert.isAbove(known.length, 10)
  assert.deepStrictEqual(holders(folder, known), [])
}

/** Waits for a fresh server, and checks that nothing is left of the old one but what is the user's. */
const assertFresh = async (tiers: Tiers, old: Status, known: ReadonlyArray<string>, start: number): Promise<Status> => {
  const { home, world } = tiers
  await until(() => !isAlive(old.pid), "the end of the old server")
  const { index } = await tiers.server.out(/^COMPROMISED: all keys were burnt at /m)
  await tiers.server.out(/^Credential file: /m, index)
  await tiers.server.out(/^LLM connection established$/m, index)
  assert.isBelow(performance.now() - start, LIMIT_MS)
  const fresh = await statusOf(world, home)
  assert.notStrictEqual(fresh.pid, old.pid)
  assert.strictEqual(fresh.devices, 0)
  assert.isTrue(fresh.llm.connected)
  assertBurnt(home, known)
  assert.isFalse(Fs.existsSync(Path.join(home, "identity/tombstone")))
  assert.match(tiers.server.stdout, /^Next step: carry the new \S+clawchat-current\.sec to each device/m)
  // A device that comes with the new file is the owner.
  const device = await tiers.pair(`fresh-${fresh.pid}`)
  const answer = await world.ok(["chat", "still there?", "--home", device])
  assert.match(answer.stdout, /> still there\?/)
  return fresh
}

/** Calls back, once, as soon as the file stands there. */
const whenThere = (path: string, then: () => void): Promise<void> =>
  new Promise((resolve) => {
    const watcher = Fs.watch(Path.dirname(path), (_, name) => {
      if (name !== Path.basename(path) || !Fs.existsSync(path)) return
      watcher.close()
      then()
      resolve()
    })
  })

const portOf = ({ address }: Status): number => Number(address.slice(address.lastIndexOf(":") + 1))

describe.skipIf(!hasProc)(`clawchat compromised${whyNoProc}`, () => {
  it(
    "from the owner's device: both ends burn, a fresh server and llm tier take over, the old port is closed",
    inWorld(async (world) => {
      const tiers = await Tiers.start(world, { draws: true })
      const owner = await tiers.pair("owner")
      const member = await tiers.pair("member")
      await world.ok(["chat", "remember the milk", "--home", owner])
      const waiting = world.start(["chat", "--home", member], { open: true })
      waiting.write("hello\n")
      await waiting.out(/> hello/)
      const known = await allSecrets(world, tiers)
      const old = await statusOf(world, tiers.home)
      const start = performance.now()
      const done = await world.ok(["compromised", "--yes", "--home", owner])
      assert.match(done.stdout, /^COMPROMISED: all keys of this device are burnt/)
      assert.match(done.stdout, /has heard it/)
      assert.match(done.stdout, /clawchat pair /)
      assertBurnt(owner, known)
      const fresh = await assertFresh(tiers, old, known, start)
      assert.notStrictEqual(fresh.address, old.address)
      assert.notInclude(
        udpTable().map(({ port }) => port),
        portOf(old)
      )
      // The other device was told, burnt its own keys, and says what to do.
      assert.deepInclude(await waiting.exit(), { code: 4 })
      assert.match(waiting.stderr, /^clawchat: COMPROMISED: the keys of this device are burnt\. Next step: pair again/m)
      assertBurnt(member, known)
      assertFails(await world.run(["status", "--home", member]), 4, /not paired/)
      assertFails(await world.run(["compromised", "--yes", "--home", owner]), 4, /nothing to burn/)
      // What was said stays.
      assert.include(holders(tiers.home, ["remember the milk"]).join(), "llm/clawchat.db")
      assertNoStacks(world.output())
    })
  )

  it(
    "from the server's home, running: the command waits for the fresh one; not running: under its lock",
    inWorld(async (world) => {
      const tiers = await Tiers.start(world, { draws: true })
      const device = await tiers.pair("device")
      const known = await allSecrets(world, tiers)
      const old = await statusOf(world, tiers.home)
      const start = performance.now()
      const done = await world.ok(["compromised", "--yes", "--json", "--home", tiers.home])
      const facts = JSON.parse(done.stdout)
      assert.deepInclude(facts, { burnt: true, credential: tiers.file })
      assert.match(done.stderr, /^Next step: carry the new /m)
      const fresh = await assertFresh(tiers, old, known, start)
      assert.strictEqual(facts.pid, fresh.pid)
      // The device was not connected and is not answered any more.
      assertFails(await world.run(["ping", "--home", device, "--timeout", "1"]), 69, /does not answer/)

      const again = await allSecrets(world, tiers)
      process.kill(fresh.pid, "SIGKILL")
      for (const pid of world.processes()) process.kill(pid, "SIGKILL")
      await until(() => world.processes().length === 0, "the end of all")
      const idle = await world.ok(["compromised", "--yes", "--home", tiers.home])
      assert.match(idle.stdout, /^Start the server: /m)
      assertBurnt(
        tiers.home,
        again.filter((secret) => !holders(device, [secret]).length)
      )
      await tiers.startLlm()
      await tiers.startServer()
      await tiers.pair("third")
      assertNoStacks(world.output())
    })
  )

  it(
    "from another device: that one is out, all others stay; the server goes on",
    inWorld(async (world) => {
      const tiers = await Tiers.start(world)
      const owner = await tiers.pair("owner")
      const member = await tiers.pair("member")
      const before = await statusOf(world, tiers.home)
      const copy = world.path("stolen")
      Fs.cpSync(member, copy, { recursive: true })
      const done = await world.ok(["compromised", "--yes", "--json", "--home", member])
      assert.deepInclude(JSON.parse(done.stdout), { burnt: true, acknowledged: true })
      const after = await statusOf(world, tiers.home)
      assert.deepStrictEqual([after.pid, after.devices, after.address], [before.pid, 1, before.address])
      const devices = JSON.parse((await world.ok(["devices", "ls", "--json", "--home", owner])).stdout)
      assert.deepStrictEqual(
        devices.map((each: { readonly role: string; readonly revokedAt?: number }) => [
          each.role,
          each.revokedAt === undefined
        ]),
        [
          ["owner", true],
          ["member", false]
        ]
      )
      const record = await world.ok(["audit", "--home", tiers.home, "--kind", "compromised", "--json"])
      const { alert, by, scope } = JSON.parse(record.stdout)
      assert.deepStrictEqual([scope, by, alert], ["device", devices[1].id, true])
      // What was stolen is worth nothing.
      assertFails(await world.run(["ping", "--home", copy, "--timeout", "1"]), 69, /does not answer/)
      // A backup does not bring it back either: the home knows what it burned.
      Fs.cpSync(Path.join(copy, "identity"), Path.join(member, "identity"), { recursive: true })
      assertFails(await world.run(["ping", "--home", member, "--timeout", "1"]), 1, /has come back/)
      Fs.rmSync(Path.join(member, "identity"), { recursive: true })
      const file = await tiers.credential("again.sec")
      await world.ok(["pair", file, "--home", member, "--key-file", tiers.keyFile])
      assertNoStacks(world.output())
    })
  )

  it(
    "with the server gone: the device burns in time, and its user is told what to do there",
    inWorld(async (world) => {
      const tiers = await Tiers.start(world)
      const owner = await tiers.pair("owner")
      const member = await tiers.pair("member")
      const known = await allSecrets(world, tiers)
      await tiers.server.stop("SIGKILL")
      const start = performance.now()
      const done = await world.ok(["compromised", "--yes", "--home", owner])
      assert.isBelow(performance.now() - start, LIMIT_MS)
      assert.match(done.stdout, /has NOT answered and may not know\. .*clawchat compromised/)
      assert.match(done.stdout, /clawchat devices revoke [0-9a-f]{8}$/m)
      assertBurnt(owner, known)
      // A device that is killed while it burns is finished by its next command.
      const command = world.start(["compromised", "--yes", "--home", member])
      await whenThere(Path.join(member, "identity/tombstone"), () => command.kill("SIGKILL"))
      assert.deepInclude(await command.exit(), { signal: "SIGKILL" })
      assertFails(await world.run(["status", "--home", member]), 4, /keys of this device are burnt/)
      assertBurnt(member, known)
      assert.isFalse(Fs.existsSync(Path.join(member, "identity/tombstone")))
    })
  )

  it(
    "asks for YES: anything else does nothing",
    inWorld(async (world) => {
      const tiers = await Tiers.start(world)
      const owner = await tiers.pair("owner")
      const before = tree(Path.join(owner, "identity"))
      const server = tree(Path.join(tiers.home, "identity"))
      for (const home of [owner, tiers.home]) {
        for (const input of ["", "\n", "yes\n", "no\nYES\n", "YES please\n"]) {
          const result: Result = await world.run(["compromised", "--home", home], { input })
          assert.strictEqual(result.code, 1, input)
          assert.strictEqual(result.stdout, "")
          assert.match(
            result.stderr,
            /Type YES to do it[^\n]*\n(?:.*\n)?clawchat: Nothing was done: the answer was not YES\n$/
          )
        }
      }
      assert.deepStrictEqual(tree(Path.join(owner, "identity"))["static.key"], before["static.key"])
      assert.deepStrictEqual(tree(Path.join(tiers.home, "identity"))["static.key"], server["static.key"])
      await world.ok(["ping", "--home", owner, "--count", "1"])
      const done = await world.ok(["compromised", "--home", owner], { input: "YES\n" })
      assert.match(done.stdout, /has heard it/)
      assertFails(
        await world.run(["compromised", "--home", world.path("empty")], { input: "YES\n" }),
        4,
        /nothing to burn/
      )
      assert.isFalse(Fs.existsSync(world.path("empty")))
    })
  )

  it(
    "/compromised in a chat asks for YES, burns over the line that there is, and ends; so do others on the same home",
    inWorld(async (world) => {
      const tiers = await Tiers.start(world, { draws: true })
      const owner = await tiers.pair("owner")
      const known = await allSecrets(world, tiers)
      const old = await statusOf(world, tiers.home)
      const other = world.start(["chat", "--home", owner], { open: true })
      other.write("one\n")
      await other.out(/> one/)
      const refused = await world.run(["chat", "--home", owner], { input: "/compromised\nno\nstill here\n" })
      assert.strictEqual(refused.code, 1)
      assert.match(refused.stderr, /Type YES/)
      assert.match(refused.stderr, /nothing was done/)
      assert.match(refused.stdout, /> still here/)
      const start = performance.now()
      const chat: Running = world.start(["chat", "--home", owner], { open: true })
      chat.write("two\n")
      await chat.out(/> two/)
      chat.write("/compromised\nYES\n")
      assert.deepInclude(await chat.exit(), { code: 0 })
      assert.match(chat.stderr, /has heard it/)
      assert.match(chat.stderr, /^Next step: /m)
      assert.deepInclude(await other.exit(), { code: 4 })
      assertBurnt(owner, known)
      await assertFresh(tiers, old, known, start)
      assertNoStacks(world.output())
    })
  )

  it(
    "a server killed while it burns finishes when it is started again; one whose burnt key came back is refused",
    inWorld(async (world) => {
      const tiers = await Tiers.start(world, { draws: true })
      const owner = await tiers.pair("owner")
      const known = await allSecrets(world, tiers)
      const old = await statusOf(world, tiers.home)
      const stolen = tree(Path.join(tiers.home, "identity"))
      const tombstone = Path.join(tiers.home, "identity/tombstone")
      // The file system tells of the tombstone while the deletions are still to come.
      const seen = whenThere(tombstone, () => process.kill(old.pid, "SIGKILL"))
      const asked = world.run(["compromised", "--yes", "--home", owner])
      await seen
      assert.deepInclude(await asked, { code: 0 })
      await until(() => !isAlive(old.pid), "the end of the old server")
      await tiers.startServer(serverArgs(tiers.home))
      await assertFresh(tiers, old, known, performance.now())
      await tiers.server.stop()
      Fs.writeFileSync(Path.join(tiers.home, "identity/static.key"), stolen["static.key"] ?? "", { mode: 0o600 })
      const refused = await world.run(["server", "--home", tiers.home, "--bind", "127.0.0.1"])
      assertFails(refused, 1, /static\.key was burnt by COMPROMISED and has come back/)
    })
  )

  it(
    "under up: the parent starts fresh tiers, pairs anew with them, and the talk goes on",
    inWorld(async (world) => {
      const home = world.path("h")
      const up = world.start(["up", "--home", home, "--provider", "offline"], {
        open: true,
        env: llmEnv(await freePort())
      })
      up.write("before\n")
      await up.out(/> before/)
      const known = secrets(world)
      const old = await statusOf(world, home)
      await world.ok(["compromised", "--yes", "--home", home])
      await up.err(/waiting for the fresh server/)
      assert.isFalse(isAlive(old.pid))
      up.write("after\n")
      await up.out(/> after/)
      assertBurnt(home, known)
      const later = secrets(world)
      up.write("/compromised\nYES\n")
      assert.deepInclude(await up.exit(), { code: 0 })
      assert.match(up.stderr, /Next step: start clawchat up again/)
      await until(() => world.processes().length === 0, "the end of all tiers")
      assert.deepStrictEqual(
        holders(home, later).filter((path) => !path.startsWith("llm/")),
        []
      )
      await world.ok(["up", "--home", home], { input: "again\n", env: llmEnv(await freePort()) })
      assertBurnt(home, later)
      assertNoStacks(world.output())
    })
  )
})
