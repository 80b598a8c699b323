/**
 * Pairing by an answer file, as people do it, with the real program. A socket plays the NAT before the server: what the
 * device sends is lost until the server itself has sent something to where the device is seen from outside.
 */
import * as Dgram from "node:dgram"
import { once } from "node:events"
import * as Fs from "node:fs"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Stun from "../../src/domain/protocol/StunMessage.ts"
import { assertFails, assertNoStacks, freePort, llmEnv, type Running, World } from "./Tiers.ts"

const HOST = "127.0.0.1"
/** The last line of those that tell of a file. */
const CARRY = /^Carry it to the server, and there: clawchat sec answer FILE.*\n/m

/** Where devices send to: opens when the server's port has sent to `seen`, the device's outside. */
class Gate {
  readonly outside = Dgram.createSocket("udp4")
  seen = Dgram.createSocket("udp4")
  readonly lengths: Array<number> = []
  isOpen = false
  knocks = 0
  readonly #server: number
  #device: number | undefined

  constructor(server: number) {
    this.#server = server
    this.outside.on("message", (bytes, { port }) => {
      if (port === server) {
        if (this.#device !== undefined) this.outside.send(bytes, this.#device, HOST)
        return
      }
      this.#device = port
      this.knocks++
      if (this.isOpen) this.outside.send(bytes, this.#server, HOST)
    })
  }

  async bind(port: number): Promise<void> {
    this.outside.bind(port, HOST)
    await Promise.all([once(this.outside, "listening"), this.shut(false)])
  }

  /** Closed to all, and the next device is seen elsewhere: what is still sent for the last one opens nothing. */
  async shut(again = true): Promise<void> {
    if (again) this.seen.close()
    this.seen = Dgram.createSocket("udp4").bind(0, HOST)
    this.isOpen = false
    this.seen.on("message", (bytes, { port }) => {
      if (port !== this.#server) return
      this.lengths.push(bytes.length)
      this.isOpen = true
    })
    await once(this.seen, "listening")
  }

  close(): void {
    this.outside.close()
    this.seen.close()
  }
}

/** A STUN server that sees everybody at one port. */
const stunServer = async (mapped: () => number): Promise<Dgram.Socket> => {
  const socket = Dgram.createSocket("udp4").bind(0, HOST)
  await once(socket, "listening")
  socket.on("message", (bytes, { address, port }) => {
    const request = Stun.decode(bytes)
    if (request?.class !== "request") return
    const answer = new Stun.StunWriter("success", request.method, request.transactionId)
    socket.send(
      answer.xorAddress(Stun.Attribute.xorMappedAddress, { host: HOST, port: mapped() }).finish(),
      port,
      address
    )
  })
  return socket
}

describe.skipIf(process.platform === "win32")("an answer file", () => {
  let world: World
  let server: Running
  let gate: Gate
  let stun: Dgram.Socket
  const home = () => world.path("s")
  const keyFile = () => world.path("s/config/bootstrap.key")
  const answerWith = (file: string, ...more: ReadonlyArray<string>) =>
    world.run(["sec", "answer", file, "--home", home(), ...more])
  const credential = async (name: string): Promise<string> => {
    const file = world.path(`${name}.sec`)
    await world.ok(["sec", "new", "--home", home(), "--out", file])
    return file
  }
  const pair = async (name: string): Promise<{ readonly dial: Running; readonly out: string }> => {
    const out = world.path(`${name}.ans`)
    await gate.shut()
    const dial = world.start(
      ["pair", await credential(name), "--home", world.path(name), "--key-file", keyFile(), "--answer", out, "--json"],
      { env: { CLAWCHAT_STUN: `${HOST}:${stun.address().port}` } }
    )
    await dial.err(CARRY)
    return { dial, out }
  }

  beforeAll(async () => {
    world = new World()
    const [port, outside] = [await freePort(), await freePort()]
    gate = new Gate(port)
    await gate.bind(outside)
    stun = await stunServer(() => gate.seen.address().port)
    const own = ["--port", String(port), "--public-port", String(outside)]
    const env = llmEnv(await freePort())
    world.start(["llm", "--home", home()], { env })
    server = world.start(["server", "--home", home(), "--bind", HOST, "--ip", HOST, ...own], { env })
    await server.out(/^Credential file: /m)
    await server.out(/^LLM connection established$/m)
  })
  afterAll(async () => {
    gate.close()
    stun.close()
    await world.end()
  })

  it("lets a device in that cannot reach the server, nor the server it", async () => {
    const { dial, out } = await pair("a")
    assert.strictEqual(Fs.statSync(out).mode & 0o777, 0o600)
    assert.match(dial.stderr, new RegExp(`^Answer file: ${out} \\(${HOST}:${gate.seen.address().port}, `, "m"))
    // What takes longer than people expect is told, once.
    await dial.err(/^Trying 127\.0\.0\.1:\d+\n/m)
    assert.deepStrictEqual([gate.isOpen, gate.lengths.length, dial.stdout], [false, 0, ""])
    assert.isAbove(gate.knocks, 0)

    const taken = await answerWith(out)
    assert.strictEqual(taken.code, 0, JSON.stringify(taken))
    assert.match(taken.stdout, new RegExp(`^Opening the way for ${HOST}:${gate.seen.address().port}, `))
    const { code } = await dial.exit()
    assert.strictEqual(code, 0, dial.said())
    const paired: { readonly remote: string; readonly device: string } = JSON.parse(dial.stdout)
    assert.strictEqual(paired.remote, `${HOST}:${gate.outside.address().port}`)
    assert.isTrue(gate.lengths.every((length) => length === 48))
    assert.lengthOf(dial.stderr.match(/^Trying /gm) ?? [], 1)

    assertFails(await answerWith(out), 4, /used already/)
    const record = await world.ok(["audit", "--home", home(), "--kind", "answer", "--json"])
    const lines = record.stdout.trim().split("\n")
    assert.lengthOf(lines, 1)
    assert.include(lines[0], `"device":"${paired.device}"`)
    assert.notInclude(world.output(), Fs.readFileSync(out, "utf8").trim().slice(-40))
  })

  it("is refused when it was changed, is none, or is nowhere, and only a server's home takes it", async () => {
    const { dial, out } = await pair("b")
    const line = Fs.readFileSync(out, "utf8").trim()
    const changed = world.path("changed.ans")
    Fs.writeFileSync(changed, `${line.slice(0, 40)}${line[40] === "A" ? "B" : "A"}${line.slice(41)}\n`)
    assertFails(await answerWith(changed), 4, /no credential of this server opens it/)
    Fs.writeFileSync(changed, line.slice(0, -3))
    assertFails(await answerWith(changed), 4, /no answer file/)
    assertFails(await answerWith(world.path("b.sec")), 4, /no answer file/)
    assertFails(await answerWith(home()), 4, /no answer file/)
    assertFails(await answerWith(world.path("none.ans")), 3, /does not exist/)
    assertFails(await world.run(["sec", "answer", out, "--home", world.path("a")]), 69, /No server runs/)
    assertFails(await world.run(["sec", "answer", out, "--home", world.path("elsewhere")]), 69, /No server runs/)
    // From a pipe, wrapped as mail programs wrap; the file is good still.
    const input = line.replace(/(.{60})/g, "$1\r\n")
    const taken = await world.run(["sec", "answer", "-", "--home", home(), "--json"], { input })
    assert.strictEqual(taken.code, 0, JSON.stringify(taken))
    const { candidates, durationMs }: { candidates: ReadonlyArray<string>; durationMs: number } = JSON.parse(
      taken.stdout
    )
    assert.deepStrictEqual([candidates[0], durationMs], [`${HOST}:${gate.seen.address().port}`, 15_000])
    assert.strictEqual((await dial.exit()).code, 0, dial.said())
    assertNoStacks(world.output())
  })

  it("is not written where it cannot be, and nobody dials then", async () => {
    const file = await credential("c")
    const args = [
      "pair",
      file,
      "--home",
      world.path("c"),
      "--key-file",
      keyFile(),
      "--answer",
      world.path("b.sec/c.ans")
    ]
    const knocks = gate.knocks
    await gate.shut()
    assertFails(await world.run(args, { env: { CLAWCHAT_STUN: `${HOST}:${stun.address().port}` } }), 1, /c\.ans/)
    assert.isAbove(gate.knocks, knocks)
    assert.strictEqual((await world.run(["status", "--home", world.path("c")])).code, 4)
    const over = await world.run(["pair", file, "--home", world.path("c"), "--key-file", keyFile(), "--answer", file])
    assertFails(over, 2, /c\.sec is there and no answer file/)
  })

  it("lets a device talk that was let in before, and one that comes to stay", async () => {
    const env = { CLAWCHAT_STUN: `${HOST}:${stun.address().port}` }
    const talks: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
      ["a", []],
      ["e", ["--sec", await credential("e"), "--key-file", keyFile()]]
    ]
    for (const [name, more] of talks) {
      await gate.shut()
      const out = world.path(`${name}.talk.ans`)
      const talk = world.start(["chat", "hello", "--home", world.path(name), "--answer", out, ...more], { env })
      await talk.err(CARRY)
      assert.strictEqual(talk.stdout, "")
      assert.strictEqual((await answerWith(out)).code, 0)
      assert.strictEqual((await talk.exit()).code, 0, talk.said())
      assert.match(talk.stdout, /language model/)
    }
  })

  it("is what a failed pairing proposes", async () => {
    await gate.shut()
    const file = await credential("d")
    const { code, stderr } = await world.run([
      "pair",
      file,
      "--home",
      world.path("d"),
      "--key-file",
      keyFile(),
      "--timeout",
      "1"
    ])
    assert.strictEqual(code, 69)
    assert.match(stderr, new RegExp(`does not answer: .* clawchat pair ${file} --answer OUT\n`))
    assert.strictEqual((await server.stop()).code, 0)
  })
})
