/**
 * A real TURN server (coturn) on loopback, in a folder of its own, and a carrier on a real socket. What is waited for is
 * told by the carrier or by a datagram; the clock only says when something has not happened.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { randomInt } from "node:crypto"
import * as Dgram from "node:dgram"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { setTimeout as wait } from "node:timers/promises"
import { assert } from "@effect/vitest"
import type { Address } from "../../src/domain/protocol/Address.ts"
import type { Parcel } from "../../src/domain/protocol/Carrier.ts"
import * as Stun from "../../src/domain/protocol/StunMessage.ts"
import * as TurnClient from "../../src/domain/protocol/TurnClient.ts"
import { entropy } from "../../src/layers/CryptoNode.ts"
import { stunPrimitives } from "../../src/layers/StunPrimitivesNode.ts"

const PROGRAM = ["/usr/bin/turnserver", "/usr/local/bin/turnserver", "/opt/homebrew/bin/turnserver"].find((path) =>
  Fs.existsSync(path)
)
export const hasCoturn = PROGRAM !== undefined
export const whyNot = hasCoturn ? "" : " (skipped: turnserver, of the package coturn, is not installed)"

export const HOST = "127.0.0.1"
export const HOST_V6 = "::1"
export const hasIpv6 = Object.values(Os.networkInterfaces()).some((all) =>
  all?.some(({ address }) => address === HOST_V6)
)
const DEADLINE_MS = 20_000
const REALM = "example.org"
export const CREDENTIALS = { username: "alice", password: "correct horse" }
export const VIA = 7

const within = async <A>(promise: Promise<A>, what: () => string): Promise<A> => {
  const done = new AbortController()
  const late = wait(DEADLINE_MS, undefined, { signal: done.signal }).then(
    () => Promise.reject(new Error(`not within ${DEADLINE_MS / 1000} s: ${what()}`)),
    () => promise
  )
  return Promise.race([promise, late]).finally(() => done.abort())
}

export interface CoturnOptions {
  /** Options beside those for a quiet server on loopback. */
  readonly extra?: ReadonlyArray<string>
  /** How it knows its users; long-term credentials of `CREDENTIALS` when not given. */
  readonly users?: ReadonlyArray<string>
  readonly port?: number
  /** Where it listens and relays; `HOST` when not given. */
  readonly host?: string
}

export class Coturn {
  readonly address: Address
  readonly #options: CoturnOptions
  readonly #folder: string
  #child: ChildProcess | undefined

  private constructor(options: CoturnOptions, host: string, port: number) {
    this.#options = options
    this.address = { host, port }
    this.#folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-coturn-"))
  }

  /** Starts one that answers. */
  static async start(options: CoturnOptions = {}): Promise<Coturn> {
    const { host = HOST } = options
    const server = new Coturn(options, host, options.port ?? (await freePort(host)))
    await server.run()
    return server
  }

  /** (Re)starts the process on the same port. */
  async run(): Promise<void> {
    const first = randomInt(20_000, 31_000)
    const child = spawn(
      PROGRAM ?? assert.fail("no turnserver"),
      [
        ...[
          "-n",
          "-L",
          this.address.host,
          "-E",
          this.address.host,
          "-p",
          String(this.address.port),
          "--allow-loopback-peers",
          "--no-cli"
        ],
        ...["--no-tls", "--no-dtls", "--no-tcp", "--no-tcp-relay", "-m", "1", "--log-file", "stdout", "--simple-log"],
        ...["--min-port", String(first), "--max-port", String(first + 1000), "--pidfile", "turn.pid"],
        ...["--userdb", "turn.db", "-r", REALM],
        ...(this.#options.users ?? ["--lt-cred-mech", "-u", `${CREDENTIALS.username}:${CREDENTIALS.password}`]),
        ...(this.#options.extra ?? [])
      ],
      { cwd: this.#folder, stdio: ["ignore", "ignore", "ignore"] }
    )
    this.#child = child
    await within(answers(this.address), () => "turnserver answers a Binding request")
  }

  async kill(): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null) return
    const gone = once(child, "exit")
    child.kill("SIGKILL")
    await gone
  }

  async end(): Promise<void> {
    await this.kill()
    Fs.rmSync(this.#folder, { recursive: true, force: true })
  }
}

const socketAt = async (host: string, port: number): Promise<Dgram.Socket> => {
  const socket = Dgram.createSocket(host.includes(":") ? "udp6" : "udp4").bind(port, host)
  await once(socket, "listening")
  return socket
}

const freePort = async (host: string): Promise<number> => {
  const socket = await socketAt(host, 0)
  const { port } = socket.address()
  socket.close()
  await once(socket, "close")
  return port
}

/** Waits for an answer to a Binding request, asking anew while nobody listens. */
const answers = async (server: Address): Promise<void> => {
  const socket = await socketAt(server.host, 0)
  const ask = (): void =>
    socket.send(
      new Stun.StunWriter("request", Stun.Method.binding, entropy(12)).finish(),
      server.port,
      server.host,
      () => undefined
    )
  const again = setInterval(ask, 20)
  socket.on("error", () => undefined)
  ask()
  await once(socket, "message").finally(() => clearInterval(again))
  socket.close()
}

/** A carrier on a socket, and what it carries. */
export class CarrierSocket {
  readonly client: TurnClient.TurnClient
  readonly received: Array<Parcel> = []
  /** What left for the server. */
  readonly sent: Array<Uint8Array> = []
  /** Error codes that came from it. */
  readonly errors: Array<number> = []
  readonly #socket: Dgram.Socket
  readonly #waiting = new Set<() => void>()
  /** Datagrams that the socket has not let go of. */
  #leaving = 0
  #timer: NodeJS.Timeout | undefined

  private constructor(socket: Dgram.Socket, server: Address, options: Partial<TurnClient.Options>) {
    this.#socket = socket
    this.client = new TurnClient.TurnClient(performance.now(), {
      server,
      via: VIA,
      credentials: () => CREDENTIALS,
      primitives: stunPrimitives,
      entropy,
      ...options
    })
    socket.on("error", () => undefined)
    socket.on("message", (bytes, { address, port }) => {
      const copy = Uint8Array.from(bytes)
      const message = Stun.decode(copy)
      const error = message === undefined ? undefined : Stun.errorCode(message)
      if (error !== undefined) this.errors.push(error.code)
      const parcel = this.client.handleDatagram(performance.now(), { host: address, port }, copy)
      if (parcel !== "foreign" && parcel !== undefined) this.received.push(parcel)
      this.drain()
    })
  }

  static async open(server: Address, options: Partial<TurnClient.Options> = {}, port = 0): Promise<CarrierSocket> {
    const socket = await socketAt(server.host, port)
    const made = new CarrierSocket(socket, server, options)
    made.drain()
    return made
  }

  get port(): number {
    return this.#socket.address().port
  }

  /** Waits until something about the carrier is so. */
  async until(isSo: () => boolean, what: string): Promise<void> {
    const so = new Promise<void>((resolve) => {
      const look = (): void => {
        if (!isSo()) return
        this.#waiting.delete(look)
        resolve()
      }
      this.#waiting.add(look)
      look()
    })
    const found = (): string => `${what}; ${this.client.state}, ${JSON.stringify(this.client.failure)}, ${this.errors}`
    await within(so, found)
  }

  async allocated(): Promise<Address> {
    await this.until(() => this.client.state === "Allocated", "an allocation")
    return this.client.relayed ?? assert.fail("no relayed address")
  }

  send(remote: Address, bytes: Uint8Array): void {
    const parcel = this.client.wrap(performance.now(), { ...remote, via: VIA }, bytes)
    this.drain()
    if (parcel !== undefined) this.#put(parcel)
  }

  /** A command of the carrier's owner. */
  do(command: (client: TurnClient.TurnClient, now: number) => void): void {
    command(this.client, performance.now())
    this.drain()
  }

  drain(): void {
    for (let next = this.client.pollTransmit(performance.now()); next !== undefined; ) {
      this.#put(next)
      next = this.client.pollTransmit(performance.now())
    }
    clearTimeout(this.#timer)
    const at = this.client.pollTimeout()
    if (at !== Number.POSITIVE_INFINITY) {
      this.#timer = setTimeout(
        () => {
          this.client.handleTimeout(performance.now())
          this.drain()
        },
        Math.max(0, Math.ceil(at - performance.now()))
      )
    }
    for (const look of [...this.#waiting]) look()
  }

  /** Closes the socket when the last words have left; without them when it is to look killed. */
  async end(how: "close" | "kill" = "close"): Promise<void> {
    if (how === "close") this.do((client, now) => client.close(now))
    await this.until(() => this.#leaving === 0, "the last words to leave")
    clearTimeout(this.#timer)
    const closed = once(this.#socket, "close")
    this.#socket.close()
    await closed
  }

  #put({ bytes, remote }: Parcel): void {
    this.sent.push(bytes)
    this.#leaving++
    this.#socket.send(bytes, remote.port, remote.host, () => {
      this.#leaving--
      for (const look of [...this.#waiting]) look()
    })
  }
}
