/** Our programs and those of others on the hosts of a small internet; all gone at the end. */
import * as Path from "node:path"
import { assert } from "@effect/vitest"
import { bin } from "../Program.ts"
import { type Options, type Result, type Running, World } from "../processes/Tiers.ts"
import { Internet, type Kind, type Place } from "./Internet.ts"
import { type Host, tool } from "./Namespaces.ts"

export const hasCoturn = tool("turnserver") !== undefined
const REALM = "example.org"
export const TURN_USER = { username: "alice", password: "correct horse" }
const TURN_PORT = 3478
const MIRROR = Path.join(import.meta.dirname, "Mirror.ts")

export interface Turn {
  /** Two addresses of one server: what RFC 5780 asks for. */
  readonly addresses: readonly [string, string]
  /** As flags have it. */
  readonly server: string
  readonly running: Running
}

export interface Rendezvous {
  readonly server: string
  readonly address: string
  /** For the key file of a server. */
  readonly line: string
  readonly running: Running
}

export class Lab {
  readonly world: World
  readonly internet: Internet
  #numbers = 0

  private constructor(world: World, internet: Internet) {
    this.world = world
    this.internet = internet
  }

  static async make(): Promise<Lab> {
    const world = new World()
    try {
      return new Lab(world, await Internet.make())
    } catch (error) {
      await world.end()
      throw error
    }
  }

  /** Starts another's program in a host. */
  program(host: Host, program: string, args: ReadonlyArray<string>, options: Options = {}): Running {
    const command = host.command(program, args)
    return this.world.start(command.args, { ...options, program: command.program })
  }

  /** Starts ours. */
  start(host: Host, args: ReadonlyArray<string>, options: Options = {}): Running {
    return this.program(host, process.execPath, [bin, ...args], options)
  }

  async run(host: Host, args: ReadonlyArray<string>, options: Options = {}): Promise<Result> {
    const running = this.start(host, args, options)
    const exit = await running.exit()
    return { ...exit, stdout: running.stdout, stderr: running.stderr }
  }

  /** As `run`, and fails unless the exit code is 0. */
  async ok(host: Host, args: ReadonlyArray<string>, options: Options = {}): Promise<Result> {
    const result = await this.run(host, args, options)
    assert.strictEqual(result.code, 0, `${host.name}: clawchat ${args.join(" ")}: ${JSON.stringify(result)}`)
    return result
  }

  /** A mirror on a host of its own: its two addresses. */
  async mirror(): Promise<readonly [string, string]> {
    const addresses = [this.internet.address(), this.internet.address()] as const
    const host = await this.internet.host("mirror", addresses)
    await this.program(host, process.execPath, [MIRROR, "serve", ...addresses]).out(/^Listening$/m)
    return addresses
  }

  /** What is between a place and the wire, as a mirror shows it. */
  async look(place: Place, mirror: ReadonlyArray<string>): Promise<string> {
    const running = this.program(place.host, process.execPath, [MIRROR, "ask", ...mirror])
    const exit = await running.exit()
    assert.strictEqual(exit.code, 0, running.said())
    return running.stdout
  }

  /** coturn on a host of its own. */
  async turn(): Promise<Turn> {
    const addresses = [this.internet.address(), this.internet.address()] as const
    const host = await this.internet.host("turn", addresses)
    const [first, second] = addresses
    const running = this.program(host, tool("turnserver") ?? "turnserver", [
      ...["-n", "-L", first, "-L", second, "-E", first, "-p", String(TURN_PORT), "--no-cli", "--no-tls", "--no-dtls"],
      ...["--no-tcp", "--no-tcp-relay", "-m", "1", "--log-file", "stdout", "--simple-log", "--pidfile", "turn.pid"],
      ...["--min-port", "20000", "--max-port", "29999", "--userdb", "turn.db", "-r", REALM, "--lt-cred-mech"],
      ...["-u", `${TURN_USER.username}:${TURN_USER.password}`]
    ])
    // It says nothing when its last socket, on the alternate port, is open.
    await running.out(/Total General servers/)
    await host.sh("until grep -qi ':0D97 ' /proc/net/udp; do sleep 0.02; done")
    return { addresses, server: `${first}:${TURN_PORT}`, running }
  }

  async rendezvous(): Promise<Rendezvous> {
    const address = this.internet.address()
    const host = await this.internet.host("rendezvous", [address])
    const args = ["rendezvous", "--home", this.world.path("rendezvous"), "--ip", address]
    const running = this.start(host, args)
    const listening = await running.out(/^Listening on UDP .*:(\d+)\n/m)
    const { stdout } = await this.ok(host, [...args, "key"])
    return { server: `${address}:${listening[1]}`, address, line: stdout.trim(), running }
  }

  /** A number that this lab has not given yet. */
  number(): number {
    return this.#numbers++
  }

  place(name: string, kind: Kind): Promise<Place> {
    return this.internet.place(name, kind)
  }

  /** Programs first: a host lives for as long as one of them does. */
  async end(): Promise<void> {
    await this.world.end()
    await this.internet.end()
  }
}
