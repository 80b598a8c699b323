/**
 * The real tiers as processes of their own, on loopback, seen from outside: their homes, ports, words and memory; and a
 * recorder that stands where the network would, so that what passes can be looked at, kept and sent again.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { createSocket, type Socket } from "node:dgram"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import * as ControlSocketNode from "../../src/layers/ControlSocketNode.ts"
import * as BootstrapKey from "../../src/programs/BootstrapKey.ts"
import * as ClientIdentity from "../../src/programs/ClientIdentity.ts"
import * as ClientLink from "../../src/programs/ClientLink.ts"
import * as ControlSocket from "../../src/programs/ControlSocket.ts"
import * as CredentialFiles from "../../src/programs/CredentialFiles.ts"
import { bin, cache } from "../Program.ts"

const LOOPBACK = "127.0.0.1"
/** How long a process may take to say what is waited for, on a busy machine. */
const PATIENCE = "60 seconds"

/** The environment without anything that would configure a tier. */
const environment = (extra: Readonly<Record<string, string>>): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^CLAWCHAT_|_API_KEY$/.test(name))),
  ...cache,
  ...extra
})

/** A folder that goes with the scope. */
export const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-outside-"))),
  (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
)

/** One tier's process. */
export class Tier {
  readonly child: ChildProcess
  out = ""
  err = ""
  readonly #waiting = new Set<() => void>()

  constructor(args: ReadonlyArray<string>, extra: Readonly<Record<string, string>>) {
    this.child = spawn(process.execPath, [bin, ...args], { env: environment(extra), stdio: ["ignore", "pipe", "pipe"] })
    this.child.stdout?.on("data", (chunk: Buffer) => this.#heard(() => (this.out += chunk.toString())))
    this.child.stderr?.on("data", (chunk: Buffer) => this.#heard(() => (this.err += chunk.toString())))
    this.child.on("exit", () => this.#heard(() => {}))
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null
  }

  #heard(take: () => void): void {
    take()
    for (const wake of [...this.#waiting]) wake()
  }

  /** Waits for words on stdout or stderr; their first group, or all of them. */
  says(words: RegExp): Effect.Effect<string> {
    return Effect.callback<string>((resume) => {
      const look = () => {
        const found = words.exec(this.out) ?? words.exec(this.err)
        if (found !== null) resume(Effect.succeed(found[1] ?? found[0]))
        else if (!this.alive) resume(Effect.die(new Error(`ended before it said ${words}: ${this.out}${this.err}`)))
      }
      this.#waiting.add(look)
      look()
      return Effect.sync(() => this.#waiting.delete(look))
    }).pipe(
      Effect.timeoutOrElse({
        duration: PATIENCE,
        orElse: () => Effect.die(new Error(`did not say ${words}: ${this.out}${this.err}`))
      })
    )
  }

  end(signal: "SIGTERM" | "SIGKILL"): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (!this.alive) return resume(Effect.void)
      this.child.once("close", () => resume(Effect.void))
      this.child.kill(signal)
    })
  }

  /** KiB of the process that are in memory. */
  get rssKib(): number {
    const status = Fs.readFileSync(`/proc/${this.pid}/status`, "utf8")
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1])
  }

  /** Seconds of processor time that the process has used. */
  get cpuSeconds(): number {
    const fields = Fs.readFileSync(`/proc/${this.pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? []
    return (Number(fields[11]) + Number(fields[12])) / 100
  }

  /** What a process says when something went wrong that nobody thought of. */
  get mishaps(): ReadonlyArray<string> {
    return `${this.out}${this.err}`
      .split("\n")
      .filter((line) => /should not have happened|Unhandled|uncaught|TypeError|RangeError|FATAL|\n\s+at /i.test(line))
  }
}

/** Runs one command to its end. */
export const command = (
  args: ReadonlyArray<string>,
  extra: Readonly<Record<string, string>> = {}
): Effect.Effect<{ readonly code: number | null; readonly out: string; readonly err: string }> =>
  Effect.callback((resume) => {
    const tier = new Tier(args, extra)
    tier.child.once("close", (code) => resume(Effect.succeed({ code, out: tier.out, err: tier.err })))
  })

// -- sockets --------------------------------------------------------------------------------------------------------

/** A bound UDP socket, closed with the scope. */
export const udp = (host = LOOPBACK) =>
  Effect.acquireRelease(
    Effect.callback<Socket>((resume) => {
      const socket = createSocket({ type: "udp4", recvBufferSize: 4 * 1024 * 1024 })
      socket.on("error", () => {})
      socket.bind(0, host, () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.callback<void>((resume) => void socket.close(() => resume(Effect.void)))
  )

/** A source of datagrams that counts every byte that comes back. */
export class Probe {
  readonly socket: Socket
  received = 0

  constructor(socket: Socket) {
    this.socket = socket
    socket.on("message", (bytes) => {
      this.received += bytes.length + 1
    })
  }

  /** Completes when the system has taken the last of them. */
  send(datagrams: ReadonlyArray<Uint8Array>, port: number): Effect.Effect<void> {
    return Effect.callback((resume) => {
      let left = datagrams.length
      if (left === 0) return resume(Effect.void)
      for (const bytes of datagrams) {
        this.socket.send(bytes, port, LOOPBACK, () => {
          if (--left === 0) resume(Effect.void)
        })
      }
    })
  }
}

export const probe = (host = LOOPBACK) => Effect.map(udp(host), (socket) => new Probe(socket))

/** Whether a script of Python 3 may open raw sockets here; if not, why. */
export const rawSockets: true | string =
  process.getuid?.() !== 0
    ? "not root"
    : spawnSync("python3", ["-c", "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)"]).status === 0
      ? true
      : "no python3 that may open a raw socket"

/** Sends datagrams whose source address and port are made up. */
export const sendForged = (
  datagrams: ReadonlyArray<{
    readonly from: { readonly host: string; readonly port: number }
    readonly bytes: Uint8Array
  }>,
  port: number
): Effect.Effect<void> =>
  Effect.sync(() => {
    const script = [
      "import json, socket, struct, sys",
      "out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)",
      "for host, source, target, data in json.load(sys.stdin):",
      "    data = bytes.fromhex(data)",
      "    udp = struct.pack('!HHHH', source, target, 8 + len(data), 0) + data",
      "    ip = struct.pack('!BBHHHBBH4s4s', 69, 0, 20 + len(udp), 0, 0, 64, 17, 0,",
      "                     socket.inet_aton(host), socket.inet_aton('127.0.0.1'))",
      "    out.sendto(ip + udp, ('127.0.0.1', 0))"
    ].join("\n")
    const input = JSON.stringify(
      datagrams.map(({ bytes, from }) => [from.host, from.port, port, Buffer.from(bytes).toString("hex")])
    )
    const done = spawnSync("python3", ["-c", script], { input })
    if (done.status !== 0) throw new Error(`python3: ${done.stderr.toString()}`)
  })

// -- the recorder ---------------------------------------------------------------------------------------------------

/** A datagram that passed: `up` from a client, else from the server; `client` is the client's port. */
export interface Passed {
  readonly up: boolean
  readonly client: number
  readonly bytes: Uint8Array
}

/** Stands between clients and server, passes everything on, and remembers it in order. */
export class Recorder {
  readonly port: number
  readonly passed: Array<Passed> = []
  target = 0
  /** Takes what clients send instead of the server, while it is set. */
  divert: ((bytes: Uint8Array) => void) | undefined
  readonly #front: Socket
  readonly #backs = new Map<number, Socket>()

  constructor(front: Socket) {
    this.#front = front
    this.port = front.address().port
    front.on("message", (bytes, { port }) => {
      if (this.divert !== undefined) return this.divert(Uint8Array.from(bytes))
      this.passed.push({ up: true, client: port, bytes: Uint8Array.from(bytes) })
      this.#back(port).send(bytes, this.target, LOOPBACK)
    })
  }

  /** The socket that stands for one client before the server. */
  #back(client: number): Socket {
    const known = this.#backs.get(client)
    if (known !== undefined) return known
    const made = createSocket("udp4")
    made.on("error", () => {})
    made.on("message", (bytes) => {
      this.passed.push({ up: false, client, bytes: Uint8Array.from(bytes) })
      this.#front.send(bytes, client, LOOPBACK)
    })
    this.#backs.set(client, made)
    return made
  }

  close(): Promise<void> {
    return Promise.all([...this.#backs.values()].map((back) => new Promise<void>((done) => back.close(done)))).then(
      () => {}
    )
  }
}

const recorder = Effect.gen(function* () {
  const front = yield* udp()
  return yield* Effect.acquireRelease(
    Effect.sync(() => new Recorder(front)),
    (made) => Effect.promise(() => made.close())
  )
})

// -- the world ------------------------------------------------------------------------------------------------------

/** A port that was free a moment ago. */
const freePort = Effect.scoped(Effect.map(udp(), (socket) => socket.address().port))

/** Server and llm tier on one home, and the recorder whose address the credential files announce. */
export class World extends Context.Service<
  World,
  {
    readonly folder: string
    readonly home: string
    readonly recorder: Recorder
    /** Between server and llm tier, where `linkRecorded` was asked for. */
    readonly link: Recorder | undefined
    readonly llm: Tier
    /** The server's process, which may change. */
    readonly server: () => Tier
    /** The server's own port, around the recorder. */
    readonly port: number
    /** Kills the server outright and starts it again on the same home and port. */
    readonly restart: Effect.Effect<void>
  }
>()("clawchat/test/outside/World") {}

/** With a port of its own choice that no schedule names: who computes ports would pass by the recorder. */
const startServer = (home: string, ownPort: number, publicPort: number, llmPort: number) =>
  Effect.gen(function* () {
    const ports = [`--port=${ownPort}`, `--public-port=${publicPort}`]
    const where = [`--home=${home}`, `--bind=${LOOPBACK}`, `--ip=${LOOPBACK}`, ...ports]
    const server = new Tier(["server", ...where], { CLAWCHAT_LLM_PORT: String(llmPort) })
    const port = Number(yield* server.says(/Listening on UDP 127\.0\.0\.1:(\d+)/))
    yield* server.says(/LLM connection established/)
    yield* server.says(/Credential file .* written/)
    return { server, port }
  })

export interface WorldOptions {
  /** For the llm tier's process; the offline assistant if not given. */
  readonly llmEnvironment?: Readonly<Record<string, string>>
  /** Puts a second recorder between server and llm tier. */
  readonly linkRecorded?: boolean
}

/** `prepare` sees the home before anything runs on it. */
export const world = (prepare: (home: string) => void = () => {}, options: WorldOptions = {}): Layer.Layer<World> =>
  Layer.effect(
    World,
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const home = Path.join(folder, "server")
      Fs.mkdirSync(home, { mode: 0o700 })
      prepare(home)
      const recording = yield* recorder
      const llmPort = yield* freePort
      const chosen = options.llmEnvironment ?? { CLAWCHAT_LLM_PROVIDER: "offline" }
      const llm = yield* Effect.acquireRelease(
        Effect.sync(() => new Tier(["llm", `--home=${home}`], { ...chosen, CLAWCHAT_LLM_PORT: String(llmPort) })),
        (tier) => tier.end("SIGTERM")
      )
      yield* llm.says(/Listening on UDP/)
      const link = options.linkRecorded === true ? yield* recorder : undefined
      if (link !== undefined) link.target = llmPort
      const dialled = link?.port ?? llmPort
      const ownPort = yield* freePort
      const first = yield* startServer(home, ownPort, recording.port, dialled)
      let server = first.server
      yield* Effect.addFinalizer(() => Effect.suspend(() => server.end("SIGTERM")))
      recording.target = first.port
      return World.of({
        folder,
        home,
        recorder: recording,
        link,
        llm,
        server: () => server,
        port: first.port,
        restart: Effect.gen(function* () {
          yield* server.end("SIGKILL")
          const next = yield* startServer(home, ownPort, recording.port, dialled)
          server = next.server
          if (next.port !== first.port) yield* Effect.die(new Error("the server came back on another port"))
        })
      })
    })
  )

/** The server's control procedures, through its control socket. */
export const control = Effect.gen(function* () {
  const { home } = yield* World
  const path = HomePaths.server(home).control
  return yield* Effect.orDie(Effect.provide(ControlSocket.client, ControlSocketNode.layerClient(path)))
})

export const status = Effect.scoped(
  Effect.flatMap(control, (procedures) => Effect.orDie(procedures["Control.Status"](undefined)))
)

/** Asks the server again and again until its status is as wanted: what was sent to it before has been dealt with. */
export const settled = (wanted: (now: Effect.Success<typeof status>) => boolean) =>
  status.pipe(
    Effect.repeat({ schedule: Schedule.spaced("20 millis"), until: wanted }),
    Effect.timeoutOrElse({ duration: PATIENCE, orElse: () => Effect.die(new Error("the server does not settle")) })
  )

/** A fresh credential file's path and what it offers. */
export const freshFile = Effect.gen(function* () {
  const { home } = yield* World
  const issued = yield* Effect.scoped(
    Effect.flatMap(control, (procedures) => Effect.orDie(procedures["Control.NewCredential"](undefined)))
  )
  const key = yield* BootstrapKey.fromFile(HomePaths.server(home).bootstrapKey)
  const content = yield* CredentialFiles.load(issued.path, key)
  return { path: issued.path, pairing: ClientIdentity.pairingOf(content), content }
}).pipe(Effect.orDie)

/** The identity below a client's home. */
export const identityOf = (home: string) => Effect.orDie(ClientIdentity.make(HomePaths.client(home)))

/** One connection from this process, as the real client makes it. */
export const connect = (home: string, pairing?: ClientIdentity.Pairing) =>
  Effect.flatMap(identityOf(home), (identity) =>
    ClientLink.connect({
      identity,
      pairing,
      deviceName: Path.basename(home),
      patience: ClientLink.PATIENCE,
      timeoutMs: 20_000
    })
  )

/** A device that is paired now: its home. */
export const device = (name: string) =>
  Effect.gen(function* () {
    const { folder } = yield* World
    const home = Path.join(folder, name)
    const { pairing } = yield* freshFile
    yield* Effect.scoped(Effect.orDie(connect(home, pairing)))
    return home
  })

/** One question and its whole answer. */
export const say = (session: ClientLink.Session, text: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { chat } = yield* session.openChat
      const events = yield* Stream.runCollect(
        chat["Chat.Send"]({ conversation: "main", messageId: randomUUID(), text })
      )
      return events.flatMap((event) => (event._tag === "Delta" ? [event.text] : [])).join("")
    })
  )

/** A round trip through everything: what was sent to the server before it has been taken in by then. */
export const echo = (session: ClientLink.Session, data = "x") => Effect.orDie(session.server["Control.Echo"]({ data }))
