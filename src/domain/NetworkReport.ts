/**
 * What `clawchat doctor` found out about the network, as data for scripts (`--json`, a stable format: fields are added,
 * never renamed) and in words for people. Unknown is `null`.
 */
import type { InputDefault } from "./Firewall.ts"
import { type Address, format } from "./protocol/Address.ts"
import { hostKind } from "./protocol/HostKind.ts"
import type { Dependence, Mapping, NatReport } from "./protocol/NatBehaviour.ts"

export interface StunServer {
  readonly server: string
  readonly outcome: "answered" | "silent" | "refused"
  readonly reflexive: string | null
  readonly rttMs: number | null
}

/** One address family, seen from a socket of its own. */
export interface Nat {
  /** The port that the socket had. */
  readonly localPort: number
  readonly reflexive: string | null
  /** False for a host whose own address is the public one. */
  readonly translated: boolean | null
  readonly mapping: Mapping | null
  readonly filtering: Dependence | null
  readonly portPreserved: boolean | null
  readonly hairpin: boolean | null
  /** Bytes of an IP packet that gets through. */
  readonly mtu: number | null
  /** A pause of `atLeastSeconds` was survived, one of `belowSeconds` was not. Only when asked for. */
  readonly mappingLifetime: { readonly atLeastSeconds: number; readonly belowSeconds: number | null } | null
  readonly servers: ReadonlyArray<StunServer>
}

export type CandidateKind = "host" | "reflexive" | "mapped" | "relayed"

export interface CandidateAddress {
  readonly kind: CandidateKind
  /** `null` for a relay that is known by name. */
  readonly family: "ipv4" | "ipv6" | null
  /** An address, with a port where the kind has one of its own; for a relay the server that gives it. */
  readonly address: string
}

/** A way to the server that this session tried. */
export interface Way {
  readonly address: string
  readonly relayed: boolean
  readonly state: "validating" | "validated" | "active" | "failed"
  readonly rttMs: number | null
}

export interface ConnectionReport {
  readonly way: "direct" | "relayed"
  readonly address: string
  /** All that was tried, the one in use among them. */
  readonly tried: ReadonlyArray<Way>
  /** Why it goes through a relay; `null` for a direct way. */
  readonly why: string | null
}

export interface NetworkReport {
  readonly nat: { readonly ipv4: Nat | null; readonly ipv6: Nat | null }
  readonly candidates: ReadonlyArray<CandidateAddress>
  /** What outsiders get from a UDP port of this host that nobody has opened. */
  readonly closedPorts: "silent" | "answer" | "unknown"
  readonly connection: ConnectionReport | null
}

const textOf = (address: Address | undefined): string | null => (address === undefined ? null : format(address))
const round = (ms: number): number => Math.round(ms * 100) / 100

export const natOf = (
  localPort: number,
  report: NatReport,
  lifetime?: { readonly atLeastMs: number; readonly belowMs: number | undefined }
): Nat => ({
  localPort,
  reflexive: textOf(report.reflexive),
  translated: report.translated ?? null,
  mapping: report.mapping ?? null,
  filtering: report.filtering ?? null,
  portPreserved: report.portPreserved ?? null,
  hairpin: report.hairpin ?? null,
  mtu: report.mtu ?? null,
  mappingLifetime:
    lifetime === undefined
      ? null
      : {
          atLeastSeconds: lifetime.atLeastMs / 1000,
          belowSeconds: lifetime.belowMs === undefined ? null : lifetime.belowMs / 1000
        },
  servers: report.servers.map(({ outcome, reflexive, rttMs, server }) => ({
    server: format(server),
    outcome,
    reflexive: textOf(reflexive),
    rttMs: rttMs === undefined ? null : round(rttMs)
  }))
})

/** Addresses of this host by which others may reach it, and what STUN added to them. Zones and loopback are nobody's. */
export const candidatesOf = (
  hosts: ReadonlyArray<string>,
  nats: ReadonlyArray<Nat | null>,
  more: { readonly mapped?: ReadonlyArray<Address>; readonly relays?: ReadonlyArray<string> } = {}
): ReadonlyArray<CandidateAddress> => {
  const reachable = hosts.filter((host) => ["private", "shared", "public"].includes(hostKind(host) ?? ""))
  const reflexive = nats.flatMap((nat) => (nat?.translated === true && nat.reflexive !== null ? [nat.reflexive] : []))
  const of = (kind: CandidateKind, addresses: ReadonlyArray<string>): ReadonlyArray<CandidateAddress> =>
    addresses.map((address) => ({ kind, family: familyOf(address), address }))
  return [
    ...of("host", reachable),
    ...of("reflexive", reflexive),
    ...of("mapped", (more.mapped ?? []).map(format)),
    ...of("relayed", more.relays ?? [])
  ]
}

const familyOf = (address: string): CandidateAddress["family"] => {
  if (address.startsWith("[") || address.split(":").length > 2) return "ipv6"
  return /^\d+(\.\d+){3}(:\d+)?$/.test(address) ? "ipv4" : null
}

/** A measurement where there is one, else what the packet filter's rules say. */
export const closedPortsOf = (
  measured: NetworkReport["closedPorts"],
  byRules: InputDefault
): NetworkReport["closedPorts"] => {
  if (measured !== "unknown" || byRules === "unknown") return measured
  return byRules === "drop" ? "silent" : "answer"
}

/** `inUse` is the address that the session speaks to now; there may be no path of that name left, if it has just moved. */
export const connectionOf = (
  inUse: Address,
  paths: ReadonlyArray<{
    readonly remote: Address
    readonly state: Way["state"]
    readonly rttMs: number
    readonly relayed: boolean
  }>,
  nats: NetworkReport["nat"]
): ConnectionReport => {
  const active = paths.find(({ state }) => state === "active")
  const relayed = active?.relayed ?? false
  const tried = paths.map((path) => ({
    address: format(path.remote),
    relayed: path.relayed,
    state: path.state,
    rttMs: path.rttMs > 0 ? round(path.rttMs) : null
  }))
  return {
    way: relayed ? "relayed" : "direct",
    address: format(active?.remote ?? inUse),
    tried,
    why: relayed ? whyRelayed(tried, inUse.host.includes(":") ? nats.ipv6 : nats.ipv4) : null
  }
}

const whyRelayed = (tried: ReadonlyArray<Way>, nat: Nat | null): string => {
  const direct = tried.filter((way) => !way.relayed)
  const failed = direct.filter(({ state }) => state === "failed").map(({ address }) => address)
  const open = direct.filter(({ state }) => state === "validating").map(({ address }) => address)
  const reasons = [
    ...(direct.length === 0 ? ["no direct address of the server is known"] : []),
    ...(failed.length > 0 ? [`no answer from ${failed.join(", ")}`] : []),
    ...(open.length > 0 ? [`still trying ${open.join(", ")}`] : []),
    ...(isDependent(nat) ? ["this host's NAT shows every destination another address"] : [])
  ]
  return reasons.length === 0 ? "the relay answered first and no direct way has been proven yet" : reasons.join("; ")
}

// -- in words -------------------------------------------------------------------------------------------------------

const isDependent = (nat: Nat | null): boolean =>
  nat !== null && nat.translated === true && nat.mapping !== null && nat.mapping !== "endpoint-independent"

/** What it means for connections: the strategy for this behaviour. */
export const meaning = (nat: Nat): string => {
  if (nat.translated === null) return "no STUN server answers: UDP is blocked here, or the servers are down"
  if (!nat.translated) {
    switch (nat.filtering) {
      case "endpoint-independent":
        return "reachable directly"
      case null:
        return "the address is public; whether a firewall lets strangers in is not known"
      default:
        return "a firewall lets in answers only: direct by punching, or open the server's port"
    }
  }
  if (nat.mapping === null) return "give a second --stun server to learn how this NAT maps"
  if (nat.mapping === "endpoint-independent") {
    return nat.filtering === "endpoint-independent" ? "reachable directly while it is kept alive" : "direct by punching"
  }
  return "direct only with peers whose own NAT is open; else by a rendezvous or TURN"
}

const yes = (value: boolean | null, word: string): string =>
  value === null ? `${word} unknown` : value ? word : `no ${word}`

const lifetimeWords = ({ mappingLifetime: lifetime }: Nat): ReadonlyArray<string> => {
  if (lifetime === null) return []
  const { atLeastSeconds, belowSeconds } = lifetime
  if (belowSeconds === null) return [`unused mappings live ${atLeastSeconds} s and more`]
  return [`unused mappings live ${atLeastSeconds} to ${belowSeconds} s`]
}

/** One line about a family. */
export const sentence = (nat: Nat): string => {
  if (nat.reflexive === null) return meaning(nat)
  const facts = [
    nat.translated === true ? `${nat.reflexive} outside` : `${nat.reflexive}, not translated`,
    `mapping ${nat.mapping ?? "unknown"}`,
    `filtering ${nat.filtering ?? "unknown"}`,
    ...(nat.translated === true
      ? [nat.portPreserved === true ? "port kept" : "port changed", yes(nat.hairpin, "hairpin")]
      : []),
    ...lifetimeWords(nat)
  ]
  return `${facts.join(", ")}: ${meaning(nat)}`
}

/** Whether it works less well than it could. */
export const isHard = (nat: Nat): boolean => nat.translated === null || isDependent(nat)
