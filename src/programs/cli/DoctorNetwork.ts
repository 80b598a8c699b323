/** `clawchat doctor`, the network's part: NAT, MTU, candidates, and what closed ports say. */
import * as Effect from "effect/Effect"
import * as NetworkReport from "../../domain/NetworkReport.ts"
import type { Address } from "../../domain/protocol/Address.ts"
import * as ServerName from "../../domain/ServerName.ts"
import * as FirewallNode from "../../layers/FirewallNode.ts"
import * as Resolver from "../../services/Resolver.ts"
import { UdpSocket } from "../../services/UdpSocket.ts"
import * as ClosedPorts from "../ClosedPorts.ts"
import * as MappingLifetime from "../MappingLifetime.ts"
import * as NatReport from "../NatReport.ts"
import { type Finding, fail, ok, warn } from "./Finding.ts"

export interface Options {
  readonly stun: ReadonlyArray<ServerName.ServerName>
  /** `host:port` of the relays that are configured. */
  readonly relays: ReadonlyArray<string>
  /** Longest pause for the mapping's lifetime, ms; `undefined` leaves it alone. */
  readonly lifetimeMs: number | undefined
  /** A server's ports should be silent; a client's may be as they are. */
  readonly isServer: boolean
}

export interface Found {
  readonly report: NetworkReport.NetworkReport
  readonly findings: ReadonlyArray<Finding>
}

/** One family: behaviour, and the lifetime when it was asked for; or why there is no socket. */
const family = Effect.fnUntraced(function* (servers: ReadonlyArray<Address>, lifetimeMs: number | undefined) {
  if (servers.length === 0) return undefined
  const { local, report } = yield* NatReport.discover({ servers })
  const answering = report.servers.find(({ outcome }) => outcome === "answered")?.server
  const isMeasured = lifetimeMs !== undefined && answering !== undefined
  const lifetime = isMeasured ? yield* MappingLifetime.measure(answering, lifetimeMs) : undefined
  const tester = report.servers.find(({ other }) => other !== undefined)?.server
  return {
    nat: NetworkReport.natOf(local.port, report, lifetime),
    tester,
    isUnmeasured: isMeasured && lifetime === undefined
  }
})

/** Looks at the network from sockets of its own. Takes 5 s with STUN servers that answer, and nothing without. */
export const look = Effect.fnUntraced(function* (options: Options) {
  const { isServer, lifetimeMs, relays, stun } = options
  const hosts = yield* UdpSocket.use(({ addresses }) => addresses)
  const { addresses, failures } = yield* Resolver.addressesOf(stun)
  const of = (isV6: boolean) =>
    family(
      addresses.filter(({ host }) => host.includes(":") === isV6),
      lifetimeMs
    ).pipe(Effect.catch(({ message }) => Effect.succeed(message)))
  const [v4, v6] = yield* Effect.all([of(false), of(true)], { concurrency: 2 })
  const natOf = (found: typeof v4): NetworkReport.Nat | null =>
    found === undefined || typeof found === "string" ? null : found.nat
  const nat = { ipv4: natOf(v4), ipv6: natOf(v6) }
  // A router's closed ports are what outsiders see of a host behind it.
  const tester = typeof v4 === "object" && v4.nat.translated === false ? v4.tester : undefined
  const measured =
    tester === undefined
      ? "unknown"
      : yield* Effect.orElseSucceed(ClosedPorts.probe(tester, FirewallNode.unreachablesSent), () => "unknown" as const)
  const report: NetworkReport.NetworkReport = {
    nat,
    candidates: NetworkReport.candidatesOf(hosts, [nat.ipv4, nat.ipv6], { relays }),
    closedPorts: NetworkReport.closedPortsOf(measured, yield* FirewallNode.inputDefault),
    connection: null
  }
  const findings = [
    ...failures.map(({ message }) => warn("stun", message)),
    ...(stun.length === 0 ? [ok("nat", "not looked at: no STUN server is known, name one with --stun HOST:PORT")] : []),
    ...[v4, v6].flatMap((found, i) => (found === undefined ? [] : natFindings(i === 0 ? "nat" : "nat IPv6", found))),
    candidatesFinding(report),
    ...closedPortsFinding(report, isServer)
  ]
  const found: Found = { report, findings }
  return found
})

const natFindings = (
  what: string,
  found: string | { readonly nat: NetworkReport.Nat; readonly isUnmeasured: boolean }
): ReadonlyArray<Finding> => {
  if (typeof found === "string") return [fail(what, `no socket: ${found}`)]
  const { isUnmeasured, nat } = found
  const silent = nat.servers.filter(({ outcome }) => outcome !== "answered").map(({ server }) => server)
  const words = NetworkReport.sentence(nat)
  return [
    NetworkReport.isHard(nat) ? warn(what, words) : ok(what, words),
    ...(silent.length > 0 && nat.reflexive !== null ? [warn("stun", `no answer from ${silent.join(", ")}`)] : []),
    ...(isUnmeasured ? [warn("lifetime", "cannot tell: the STUN server does not know RESPONSE-PORT (RFC 5780)")] : []),
    ...(nat.mtu === null
      ? []
      : [ok("path MTU", `${nat.mtu} bytes towards the STUN server${nat.mtu < 1500 ? "" : ", or more"}`)])
  ]
}

const candidatesFinding = ({ candidates }: NetworkReport.NetworkReport): Finding => {
  if (candidates.length === 0) return warn("candidates", "none: this host has no address but loopback")
  return ok("candidates", candidates.map(({ address, kind }) => `${kind} ${address}`).join(", "))
}

const REMEDY =
  process.platform === "linux"
    ? "install clawchat-firewall.service (docs/INSTALL.md)"
    : "let the firewall drop what nobody listens for"

const closedPortsFinding = (
  { closedPorts }: NetworkReport.NetworkReport,
  isServer: boolean
): ReadonlyArray<Finding> => {
  switch (closedPorts) {
    case "silent":
      return [ok("closed ports", "silent: a scanner sees no difference to the server's port")]
    case "answer": {
      const words = "they answer (ICMP unreachable)"
      return isServer
        ? [warn("closed ports", `${words}, which shows the server's silent one: ${REMEDY}`)]
        : [ok("closed ports", `${words}, which matters on a server only`)]
    }
    case "unknown":
      return isServer ? [warn("closed ports", "cannot tell whether they are silent: run as root, or give --stun")] : []
  }
}

/** The servers of a list of texts; what is none is left out, for who wrote it has checked it. */
export const named = (texts: ReadonlyArray<string>): ReadonlyArray<ServerName.ServerName> =>
  texts.map((text) => ServerName.parse(text, ServerName.STUN_PORT)).filter((name) => name !== undefined)
