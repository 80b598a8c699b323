/**
 * What happens to a conversation when the network changes under it: `clawchat chat`, kernel NATs, real coturn. A cut of half a
 * minute, and servers behind other NATs, with `NAT_GRID=1`.
 */
import { setTimeout } from "node:timers/promises"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import type { Running } from "../processes/Tiers.ts"
import type { Kind, Place } from "./Internet.ts"
import { hasCoturn, Lab, type Rendezvous, type Turn } from "./Lab.ts"
import { hasNamespaces, whyNot } from "./Namespaces.ts"
import { Device, ServerSide } from "./Sides.ts"

const isWhole = process.env.NAT_GRID !== undefined
const why = hasNamespaces && !hasCoturn ? " (skipped: turnserver, of the package coturn, is not installed)" : whyNot
const CLIENTS: ReadonlyArray<Kind> = ["none", "port-restricted random", "symmetric"]
const SERVERS: ReadonlyArray<Kind> = isWhole
  ? ["none", "port-restricted random", "symmetric"]
  : ["port-restricted random"]
/** Milliseconds of a cut, and those in which a conversation must be there again, looked at where nothing else runs. */
const CUT_MS = 30_000
const SOON_MS = 5000

/** A conversation that is open. */
class Talk {
  readonly place: Place
  readonly #chat: Running
  #words = 0

  constructor(place: Place, chat: Running) {
    this.place = place
    this.#chat = chat
  }

  /** Says something new. */
  say(): void {
    this.#chat.write(`word ${++this.#words}\n`)
  }

  /** Waits for the answer to what was said last. */
  async answer(): Promise<void> {
    await this.#chat.out(new RegExp(`^ *> word ${this.#words}$`, "m"))
  }

  /** Every word was answered once, in its order. */
  check(): void {
    const words = [...this.#chat.stdout.matchAll(/> word (\d+)/g)].map(([, word]) => Number(word))
    assert.deepStrictEqual(
      words,
      Array.from({ length: this.#words }, (_, i) => i + 1),
      this.#chat.said()
    )
  }

  async end(): Promise<void> {
    this.#chat.end()
    assert.deepStrictEqual(await this.#chat.exit(), { code: 0, signal: null }, this.#chat.said())
    this.check()
  }
}

for (const kind of SERVERS)
  describe.skipIf(!hasNamespaces || !hasCoturn)(`conversations with a server behind ${kind}${why}`, () => {
    let lab: Lab
    let turn: Turn
    let rendezvous: Rendezvous
    let server: ServerSide
    const talks: Array<Talk> = []

    beforeAll(async () => {
      lab = await Lab.make()
      turn = await lab.turn()
      rendezvous = await lab.rendezvous()
      server = await ServerSide.start(lab, await lab.place("server", kind), "server", { stun: turn, turn, rendezvous })
      for (const client of CLIENTS) {
        const device = new Device(lab, await lab.place("client", client), `device-${lab.number()}`)
        const file = ["--sec", await server.credential(), "--key-file", server.keyFile]
        const talk = new Talk(device.place, device.start(["chat", ...file], true))
        talk.say()
        await talk.answer()
        talks.push(talk)
      }
    })
    afterAll(() => lab?.end())

    /** All speak when it has happened, and are answered soon. */
    const goOn = async (event: () => Promise<unknown>, speaksBefore = false): Promise<void> => {
      const speak = (): void => {
        for (const talk of talks) talk.say()
      }
      await event()
      const start = performance.now()
      if (!speaksBefore) speak()
      const late: Array<string> = []
      await Promise.all(
        talks.map(async (talk) => {
          await talk.answer()
          const ms = performance.now() - start
          if (isWhole && ms > SOON_MS) late.push(`${talk.place.kind}: ${Math.round(ms)} ms`)
        })
      )
      assert.deepStrictEqual(late, [])
      for (const talk of talks) talk.check()
    }

    const places = (): ReadonlyArray<Place> => talks.map(({ place }) => place)

    it("the clients' NATs forget them", () =>
      goOn(() => Promise.all(places().map(({ nats }) => nats.at(-1)?.forget()))))

    it("the clients get other addresses", () =>
      goOn(() => Promise.all(places().map((place) => place.moveTo(lab.internet.address())))))

    it.skipIf(kind === "none")("the server's NAT forgets it", () =>
      goOn(async () => server.place.nats.at(-1)?.forget())
    )

    it("the server gets another address", () => goOn(() => server.place.moveTo(lab.internet.address())))

    for (const side of isWhole ? ["client", "server"] : [])
      it(`the ${side} is cut off for ${CUT_MS / 1000} s, and spoken into`, () => {
        const cut = side === "client" ? places() : [server.place]
        return goOn(async () => {
          await Promise.all(cut.map((place) => lab.internet.cut(place)))
          for (const talk of talks) talk.say()
          await setTimeout(CUT_MS)
          await Promise.all(cut.map((place) => lab.internet.heal(place)))
        }, true)
      })

    it("all end as they should", async () => {
      for (const talk of talks) await talk.end()
      assert.strictEqual(talks.length, CLIENTS.length)
    })
  })
