/** What becomes of the paths that a client leaves when its server's port changes. */
import { assert, describe, it } from "@effect/vitest"
import type { Address } from "../../src/domain/protocol/Address.ts"
import { ConnectionIds } from "../../src/domain/protocol/ConnectionIds.ts"
import { MAX_DATAGRAM_LENGTH, PATH_LINGER_MS } from "../../src/domain/protocol/Constants.ts"
import { Paths } from "../../src/domain/protocol/Paths.ts"
import { Rtt } from "../../src/domain/protocol/Rtt.ts"
import { SERVER, seeded } from "./Pair.ts"

const LOCAL = new Uint8Array(8).fill(1)

/** A client's paths to a server that answers every challenge on the ports that are open. */
class Client {
  now = 0
  readonly paths: Paths
  readonly open = new Set([SERVER.port])

  constructor() {
    const ids = new ConnectionIds(LOCAL, new Uint8Array(8).fill(2), undefined)
    for (let sequence = 1; sequence < 10; sequence++) {
      ids.onNew({ type: "NewCid", sequence, retirePriorTo: 0, cid: new Uint8Array(8).fill(10 + sequence) })
    }
    const rtt = new Rtt()
    rtt.guess(10)
    this.paths = new Paths(0, {
      role: "client",
      remote: SERVER,
      localId: LOCAL,
      ids,
      entropy: seeded("paths"),
      rtt,
      rank: () => 0
    })
  }

  pass(ms: number): void {
    const until = this.now + ms
    for (;;) {
      for (let probe = this.paths.poll(this.now); probe !== undefined; probe = this.paths.poll(this.now)) {
        const { frame, remote } = probe
        if (frame.type !== "PathChallenge" || !this.open.has(remote.port)) continue
        const path = this.paths.onReceived(this.now, remote, LOCAL)
        this.paths.onResponse(this.now, path, frame.token, MAX_DATAGRAM_LENGTH)
      }
      const at = this.paths.deadline
      if (at > until) break
      this.now = Math.max(this.now, at)
      this.paths.handleTimeout(this.now)
    }
    this.now = until
  }

  /** The server opens a port and says so; the client is there when this returns. */
  move(port: number): Address {
    this.open.add(port)
    this.paths.announce(this.now, port, 0)
    this.pass(100)
    assert.strictEqual(this.paths.active.remote.port, port)
    return this.paths.active.remote
  }

  get ports(): ReadonlyArray<number> {
    return this.paths.all.map(({ remote }) => remote.port)
  }
}

describe("A path that was left for an announced port", () => {
  it("is forgotten after a while, also if it has answered once more", () => {
    const client = new Client()
    client.move(50_001)
    client.pass(1000)
    client.paths.doubt(client.now)
    client.paths.onAlive()
    client.pass(PATH_LINGER_MS)
    assert.deepStrictEqual(client.ports, [50_001])
  })

  it("is forgotten with all others of that server, whichever of them was used in between", () => {
    const client = new Client()
    client.move(50_001)
    // It falls silent for a moment, and the old port carries on.
    client.open.delete(50_001)
    client.paths.doubt(client.now)
    client.pass(500)
    assert.strictEqual(client.paths.active.remote.port, SERVER.port)
    client.open.add(50_001)
    client.move(50_002)
    client.pass(PATH_LINGER_MS)
    assert.deepStrictEqual(client.ports, [50_002])
  })

  it("is used again if the new one falls silent meanwhile, and stays then", () => {
    const client = new Client()
    client.move(50_001)
    client.open.delete(50_001)
    client.pass(1000)
    client.paths.doubt(client.now)
    client.pass(PATH_LINGER_MS)
    assert.strictEqual(client.paths.active.remote.port, SERVER.port)
  })
})
