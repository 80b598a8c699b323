/**
 * `clawchat doctor`: what this program finds on this host and in this home, one line each: `ok`, `warn` for what works less well
 * than it could, `fail` for what does not work, with what to do about it. It changes nothing.
 */
import { lstatSync, type Stats } from "node:fs"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as HomePaths from "../../domain/HomePaths.ts"
import * as NetworkReport from "../../domain/NetworkReport.ts"
import { format } from "../../domain/protocol/Address.ts"
import { MAX_DATAGRAM_LENGTH } from "../../domain/protocol/Constants.ts"
import * as ServerName from "../../domain/ServerName.ts"
import type { Flags, Values } from "../../domain/Settings.ts"
import { KERNEL_BUFFER_BYTES } from "../../layers/DgramSocket.ts"
import { ETHERNET_DATAGRAM_V4, ETHERNET_DATAGRAM_V6, LOOPBACK_DATAGRAM } from "../../layers/TransportLive.ts"
import { Crypto } from "../../services/Crypto.ts"
import { Settings } from "../../services/Settings.ts"
import { UdpSocket } from "../../services/UdpSocket.ts"
import * as ClientIdentity from "../ClientIdentity.ts"
import * as ClockSkew from "../ClockSkew.ts"
import * as MappedPort from "../MappedPort.ts"
import * as Common from "./Common.ts"
import * as DoctorMapping from "./DoctorMapping.ts"
import * as DoctorNetwork from "./DoctorNetwork.ts"
import { failed, usage } from "./Failure.ts"
import * as Finding from "./Finding.ts"
import { fail, ok, warn } from "./Finding.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import * as Tier from "./Tier.ts"

export interface Input extends Common.Globals {
  readonly json: boolean
  readonly timeout: number
  readonly stun: ReadonlyArray<string>
  /** Seconds. */
  readonly lifetime: Option.Option<number>
}

const ROUND_TRIPS = 5
/** Folders of a home in which secrets lie. */
const SECRET_FOLDERS = ["identity", "config", "security", "run", "llm", "llm/identity", "llm/run"]

// -- the host -------------------------------------------------------------------------------------------------------

export const node = Effect.sync(() =>
  ok("node", `${process.version} for ${process.platform} ${process.arch}, ${process.execPath}`)
)

const crypto = Effect.map(Crypto, ({ implementation }) => ok("crypto", `packets are sealed by ${implementation}`))

export const socket = Effect.map(UdpSocket, ({ implementation }) => ok("socket", `UDP by ${implementation}`))

/** A socket as tiers have it, for as long as it is looked at. */
const bound = Effect.flatMap(UdpSocket, ({ bind }) => bind({ host: "127.0.0.1", port: 0 }))

const kib = (bytes: number): string => `${Math.floor(bytes / 1024)} KiB`

const raise = (platform: NodeJS.Platform): string => {
  switch (platform) {
    case "linux":
      return `: raise it with sysctl -w net.core.rmem_max=${KERNEL_BUFFER_BYTES}`
    case "darwin":
      return `: raise it with sysctl -w kern.ipc.maxsockbuf=${2 * KERNEL_BUFFER_BYTES}`
    default:
      return ""
  }
}

/** What the kernel keeps of a burst until it is read: half of a fast one is lost in the usual 208 KiB. */
export const receiveBuffer = (platform: NodeJS.Platform = process.platform) =>
  bound.pipe(
    Effect.map(({ receiveBuffer: granted }) => {
      if (granted === undefined) return warn("receive buffer", "the system does not tell its size")
      const detail = `${kib(granted)} of ${kib(KERNEL_BUFFER_BYTES)} granted`
      return granted >= KERNEL_BUFFER_BYTES
        ? ok("receive buffer", detail)
        : warn("receive buffer", `${detail}, fast transfers will lose packets${raise(platform)}`)
    }),
    Effect.scoped,
    Effect.catch(({ message }) => Effect.succeed(fail("receive buffer", `no socket: ${message}`)))
  )

export const datagrams = bound.pipe(
  Effect.map(({ probes }) => {
    const elsewhere = probes
      ? `${MAX_DATAGRAM_LENGTH} at first, then what the path takes, up to ${ETHERNET_DATAGRAM_V4} (IPv4) or ${ETHERNET_DATAGRAM_V6} (IPv6)`
      : `${MAX_DATAGRAM_LENGTH}, for this socket cannot forbid fragments`
    return ok("datagrams", `up to ${LOOPBACK_DATAGRAM} bytes within this host; elsewhere ${elsewhere}`)
  }),
  Effect.scoped,
  Effect.catch(({ message }) => Effect.succeed(fail("datagrams", `no socket: ${message}`)))
)

// -- the home -------------------------------------------------------------------------------------------------------

/** Those that belong to the tiers' users where the home is root's. */
const OWNED = ["identity", "llm"]

/** A folder of a home, `undefined` where there is none or it is closed to us too. */
const folderOf = (home: string, name: string): Stats | undefined => {
  try {
    return lstatSync(HomePaths.join(home, name), { throwIfNoEntry: false })
  } catch {
    return undefined
  }
}

/** Whether the home is there, ours or root's, and its secrets are closed to others. */
export const home = (path: string): Effect.Effect<Finding.Finding> =>
  Effect.sync(() => {
    const top = lstatSync(path, { throwIfNoEntry: false })
    if (top === undefined) return warn("home", `${path} is not there yet: clawchat up, server or pair FILE makes it`)
    if (!top.isDirectory()) return fail("home", `${path} is no folder: move it away, or use another --home`)
    const user = process.geteuid?.()
    if (user === undefined) return ok("home", path)
    const open = SECRET_FOLDERS.filter((name) => ((folderOf(path, name)?.mode ?? 0) & 0o077) !== 0)
    // As docs/INSTALL.md has it: closing such a home would shut its tiers out.
    const isInstalled = top.uid === 0 && OWNED.some((name) => (folderOf(path, name)?.uid ?? 0) !== 0)
    if (top.uid !== user && !isInstalled) {
      return fail("home", `${path} belongs to user ${top.uid}, this is user ${user}`)
    }
    const closing = [...(isInstalled ? [] : [path]), ...open.map((name) => HomePaths.join(path, name))]
    const remedy = `run chmod 700 ${closing.join(" ")}`
    if (open.length > 0) return fail("home", `others have access to its secrets: ${remedy}`)
    if (isInstalled && (top.mode & 0o022) === 0) return ok("home", `${path}, root's; folders in it are its tiers' own`)
    if ((top.mode & 0o022) !== 0) return fail("home", `others may change ${path}: ${remedy}`)
    if ((top.mode & 0o077) !== 0) return warn("home", `others may look into ${path}: ${remedy}`)
    return ok("home", `${path}, open to nobody else`)
  }).pipe(Effect.catchDefect(() => Effect.succeed(fail("home", `${path} cannot be looked at`))))

/** The tier that runs on the home; nothing to say of a client's, where none does. */
export const tier = Effect.fnUntraced(function* (values: Values) {
  const running = yield* Tier.local(values.home)
  if (running === undefined) {
    return Tier.isServerHome(values.home) || Tier.isLlmHome(values.home)
      ? warn("tier", "none runs on this home: start it with clawchat server or clawchat llm")
      : undefined
  }
  return yield* running["Control.Status"](undefined).pipe(
    Effect.map((status) => {
      const about = `${status.tier} of version ${status.version}, pid ${status.pid}, UDP ${status.address}`
      return status.llm?.connected === false
        ? warn("tier", `${about}; the llm tier is away: start it with clawchat llm`)
        : ok("tier", about)
    }),
    Effect.catch((error) => Effect.succeed(fail("tier", Tier.controlFailure(error).message)))
  )
}, Effect.scoped)

/** The way to the server of a client's home, and how it was found. */
export const server = Effect.fnUntraced(
  function* (values: Values, timeoutMs: number, nat: NetworkReport.NetworkReport["nat"]) {
    if (Tier.isServerHome(values.home) || Tier.isLlmHome(values.home)) return NOTHING
    const isPaired = yield* Effect.mapError(ClientIdentity.isPaired(HomePaths.client(values.home)), ({ message }) =>
      failed(message)
    )
    if (!isPaired) {
      return told(warn("server", "this home is not paired: run clawchat pair FILE with a credential file"))
    }
    const start = yield* Clock.monotonicTimeNanos
    const session = yield* Tier.remote(values, timeoutMs)
    const connected = yield* Clock.monotonicTimeNanos
    const times: Array<number> = []
    for (let i = 0; i < ROUND_TRIPS; i++) {
      const before = yield* Clock.monotonicTimeNanos
      yield* Effect.mapError(session.server["Control.Echo"]({ data: "x".repeat(64) }), Tier.controlFailure)
      times.push(Number((yield* Clock.monotonicTimeNanos) - before) / 1e6)
    }
    const median = times.toSorted((a, b) => a - b)[ROUND_TRIPS >> 1] ?? 0
    const remote = yield* session.connection.remote
    const connectMs = Number(connected - start) / 1e6
    const connection = NetworkReport.connectionOf(remote, yield* session.connection.paths, nat)
    const { datagramBytes } = yield* session.connection.stats
    const found = told(
      ok("server", `${format(remote)} in ${connectMs.toFixed(0)} ms, round trip ${median.toFixed(2)} ms`),
      way(connection, datagramBytes),
      session.skewMs === 0
        ? ok("clock", "right enough for the server")
        : warn("clock", ClockSkew.sentence(session.skewMs))
    )
    return { ...found, connection }
  },
  Effect.scoped,
  Effect.catch(({ message }) => Effect.succeed(told(fail("server", message))))
)

interface Line {
  readonly findings: ReadonlyArray<Finding.Finding>
  readonly connection: NetworkReport.ConnectionReport | null
}

const told = (...findings: ReadonlyArray<Finding.Finding>): Line => ({ findings, connection: null })
const NOTHING = told()

/** Which way the line takes, what else was tried, and why it is a relay if it is one. */
const way = (connection: NetworkReport.ConnectionReport, datagramBytes: number): Finding.Finding => {
  const { address, tried, why } = connection
  const others = tried.filter((one) => one.state !== "active").map((one) => `${one.address} ${one.state}`)
  const beside = others.length === 0 ? "" : `; also tried: ${others.join(", ")}`
  return why === null
    ? ok("way", `direct to ${address}, datagrams of ${datagramBytes} bytes${beside}`)
    : warn("way", `by the relay ${address}: ${why}${beside}`)
}

// -- all of it ------------------------------------------------------------------------------------------------------

const serverSettings = (flags: Flags) =>
  Settings.use((service) => service.load({ role: "server", flags })).pipe(
    Effect.mapBoth({ onFailure: ({ message }) => usage(message), onSuccess: ({ settings }) => settings })
  )

/** Servers that help to meet, as this home knows them: its settings', and on a client those that its server named. */
const helpers = Effect.fnUntraced(function* (values: Values, flags: Flags) {
  const isServer = Tier.isServerHome(values.home)
  // A server's own file says more; what there is to warn of was said when the settings were read first.
  const settings = isServer ? yield* serverSettings(flags) : values
  const { networking } = settings
  const known = isServer
    ? undefined
    : yield* Tier.identity(values).pipe(
        Effect.flatMap(({ status }) => status),
        Effect.map((status) => (status._tag === "Unpaired" ? undefined : status.server.natTraversal)),
        Effect.orElseSucceed(() => undefined)
      )
  const isTold = flags.stun !== undefined
  const stun = [...networking.stun, ...(isTold ? [] : DoctorNetwork.named(known?.stun ?? []))]
  const named = [...(known?.rendezvous ?? []), ...(known?.turn ?? [])].map((relay) =>
    typeof relay === "string" ? relay : relay.server
  )
  const relays = isServer ? [...networking.rendezvous, ...networking.turn].map(ServerName.format) : named
  const isMapped = isServer && (yield* MappedPort.wanted(settings))
  return { isServer, isMapped, stun: networking.natDetection || isTold ? stun : [], relays }
})

/** Seconds: shorter ones tell nothing, longer ones nobody waits for. */
const LIFETIME_MIN = 10
const LIFETIME_MAX = 3600

const lifetimeOf = ({ lifetime }: Input) => {
  const seconds = Option.getOrUndefined(lifetime)
  if (seconds === undefined) return Effect.undefined
  return seconds >= LIFETIME_MIN && seconds <= LIFETIME_MAX
    ? Effect.succeed(seconds * 1000)
    : Effect.fail(usage(`--lifetime: expected ${LIFETIME_MIN} to ${LIFETIME_MAX} seconds, got ${seconds}`))
}

export const run = Effect.fnUntraced(function* (input: Input) {
  const lifetimeMs = yield* lifetimeOf(input)
  const given = input.stun.length === 0 ? undefined : input.stun.join(",")
  const flags: Flags = { ...Common.globalFlags(input), stun: given }
  const values = yield* Common.settings("client", flags)
  const findings: Array<Finding.Finding> = []
  const tell = Effect.fnUntraced(function* (found: ReadonlyArray<Finding.Finding>) {
    findings.push(...found)
    if (!input.json) for (const finding of found) yield* Output.line(Finding.line(finding))
  })
  for (const check of [node, crypto, socket, receiveBuffer(), datagrams, home(values.home), tier(values)]) {
    const finding: Finding.Finding | undefined = yield* check
    if (finding !== undefined) yield* tell([finding])
  }
  const { isMapped, isServer, relays, stun } = yield* helpers(values, flags)
  if (lifetimeMs !== undefined && stun.length > 0) {
    yield* Output.note(`Measuring how long mappings live; this takes ${(2 * lifetimeMs) / 1000} s at most`)
  }
  const network = yield* DoctorNetwork.look({ stun, relays, lifetimeMs, isServer })
  yield* tell(network.findings)
  if (isMapped) yield* tell([yield* DoctorMapping.look])
  const line = yield* server(values, input.timeout, network.report.nat)
  yield* tell(line.findings)
  const broken = findings.filter(({ verdict }) => verdict === "fail").map(({ what }) => what)
  const report: NetworkReport.NetworkReport = { ...network.report, connection: line.connection }
  if (input.json) yield* Output.json({ ok: broken.length === 0, findings, network: report })
  if (broken.length > 0) return yield* failed(`Not well: ${broken.join(", ")}`)
}, Effect.provide(Layers.network))
