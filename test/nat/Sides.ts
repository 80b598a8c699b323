/** A server with its assistant behind one NAT, and devices behind others: the real programs, as their owners start them. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Running } from "../processes/Tiers.ts"
import type { Place } from "./Internet.ts"
import { type Lab, type Rendezvous, TURN_USER, type Turn } from "./Lab.ts"

const LINE = Path.join(import.meta.dirname, "Line.ts")

/** Third parties that a server is told of. */
export interface Helpers {
  readonly stun?: Turn
  readonly turn?: Turn
  readonly rendezvous?: Rendezvous
}

export class ServerSide {
  readonly lab: Lab
  readonly place: Place
  readonly home: string
  readonly server: Running
  readonly llm: Running
  #files = 0

  private constructor(lab: Lab, place: Place, home: string, server: Running, llm: Running) {
    this.lab = lab
    this.place = place
    this.home = home
    this.server = server
    this.llm = llm
  }

  /** Starts both tiers; they know each other when this returns. */
  static async start(lab: Lab, place: Place, name: string, helpers: Helpers, more: ReadonlyArray<string> = []) {
    const home = lab.world.path(name)
    const config = Path.join(home, "config")
    Fs.mkdirSync(config, { recursive: true, mode: 0o700 })
    Fs.chmodSync(home, 0o700)
    const keep = (file: string, content: string): void =>
      Fs.writeFileSync(Path.join(config, file), content, { mode: 0o600 })
    const args = ["server", "--home", home, ...more]
    if (helpers.stun !== undefined) args.push("--stun", helpers.stun.server)
    if (helpers.turn !== undefined) {
      keep("turn.credentials", `username=${TURN_USER.username}\npassword="${TURN_USER.password}"\n`)
      args.push("--turn", helpers.turn.server)
    }
    if (helpers.rendezvous !== undefined) {
      keep("rendezvous.key", `${helpers.rendezvous.line}\n`)
      args.push("--rendezvous", helpers.rendezvous.server)
    }
    const llm = lab.start(place.host, ["llm", "--home", home])
    const server = lab.start(place.host, args)
    await server.out(/^LLM connection established$/m)
    if (helpers.turn !== undefined && place.kind !== "blocked") await server.err(/relays for us at/)
    return new ServerSide(lab, place, home, server, llm)
  }

  /** A credential file that nobody has used, as a person would carry it: the server's own at first, then fresh ones. */
  async credential(): Promise<string> {
    const out = this.lab.world.path(`${Path.basename(this.home)}-${this.#files}.sec`)
    if (this.#files++ === 0) {
      await this.server.out(/^Credential file: /m)
      Fs.copyFileSync(Path.join(this.home, "security/clawchat-current.sec"), out)
    } else {
      await this.lab.ok(this.place.host, ["sec", "new", "--home", this.home, "--out", out])
    }
    return out
  }

  /** Ends both tiers. */
  async stop(): Promise<void> {
    await this.server.stop()
    await this.llm.stop()
  }

  get keyFile(): string {
    return Path.join(this.home, "config/bootstrap.key")
  }
}

/** What one command of a device took, its start included. */
export interface Timed {
  readonly ms: number
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export class Device {
  readonly lab: Lab
  readonly place: Place
  readonly home: string

  constructor(lab: Lab, place: Place, name: string) {
    this.lab = lab
    this.place = place
    this.home = lab.world.path(name)
  }

  start(args: ReadonlyArray<string>, open = false): Running {
    return this.lab.start(this.place.host, [...args, "--home", this.home], { open })
  }

  /** Keeps a line, and tells of its ways (see Line.ts). */
  line(): Running {
    return this.lab.program(this.place.host, process.execPath, [LINE, this.home], { open: true })
  }

  /** Runs a command to its end. */
  async timed(args: ReadonlyArray<string>): Promise<Timed> {
    const start = performance.now()
    const { code, stderr, stdout } = await this.lab.run(this.place.host, [...args, "--home", this.home])
    return { ms: performance.now() - start, code, stdout, stderr }
  }

  pair(server: ServerSide, file: string): Promise<Timed> {
    return this.timed(["pair", file, "--key-file", server.keyFile])
  }
}
