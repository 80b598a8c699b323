/** Reading what Linux says of its packet filter and its ICMP counters. */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { PORT_FIRST } from "./protocol/Constants.ts"

/** What becomes of a datagram to a port that no rule opens. */
export type InputDefault = "drop" | "reject" | "accept" | "unknown"

/** `OutDestUnreachs` of `/proc/net/snmp` and its twin of `/proc/net/snmp6`, together. */
export const unreachablesSent = (snmp: string, snmp6: string): number | undefined => {
  const [names, values] = snmp.split("\n").filter((line) => line.startsWith("Icmp: "))
  const column = names?.split(" ").indexOf("OutDestUnreachs") ?? -1
  const v4 = column < 0 ? Number.NaN : Number(values?.split(" ")[column])
  if (!Number.isFinite(v4)) return undefined
  const v6 = Number(/^Icmp6OutDestUnreachs\s+(\d+)$/m.exec(snmp6)?.[1] ?? 0)
  return v4 + v6
}

const Ruleset = Schema.fromJsonString(
  Schema.Struct({ nftables: Schema.Array(Schema.Record(Schema.String, Schema.Unknown)) })
)
const Chain = Schema.Struct({
  chain: Schema.Struct({
    family: Schema.String,
    table: Schema.String,
    name: Schema.String,
    hook: Schema.optionalKey(Schema.String),
    policy: Schema.optionalKey(Schema.String)
  })
})
const Rule = Schema.Struct({
  rule: Schema.Struct({
    family: Schema.String,
    table: Schema.String,
    chain: Schema.String,
    expr: Schema.Array(Schema.Record(Schema.String, Schema.Unknown))
  })
})
const decodeRuleset = Schema.decodeUnknownOption(Ruleset)
const decodeChain = Schema.decodeUnknownOption(Chain)
const decodeRule = Schema.decodeUnknownOption(Rule)

/**
 * By `nft -j list ruleset`: the strictest of the input chains. A chain's policy counts, or a last rule that takes all: what
 * becomes of datagrams to ports that nobody thought of. Of the rules before only those are weighed that let in a range of the
 * ports that a server draws from: its closed ones answer then. Unknown where such a rule is told in words of iptables' own.
 */
export const ofNft = (json: string): InputDefault => {
  const ruleset = Option.getOrUndefined(decodeRuleset(json))
  if (ruleset === undefined) return "unknown"
  const rules = ruleset.nftables.flatMap((entry) => Option.toArray(decodeRule(entry))).map(({ rule }) => rule)
  const outcomes = ruleset.nftables
    .flatMap((entry) => Option.toArray(decodeChain(entry)))
    .filter(({ chain }) => chain.hook === "input" && ["ip", "inet"].includes(chain.family))
    .map(({ chain }): InputDefault => {
      const { family, name, policy, table } = chain
      const own = rules.filter((rule) => rule.family === family && rule.table === table && rule.chain === name)
      // What only counts or logs, and then ends the packet, takes all.
      const last = (own.at(-1)?.expr ?? []).filter((part) => !("counter" in part || "log" in part))
      const verdict = last.length === 1 ? last[0] : undefined
      const isRejected = verdict !== undefined && "reject" in verdict
      const isDropped = policy === "drop" || (verdict !== undefined && "drop" in verdict)
      const isAccepted = verdict !== undefined && "accept" in verdict
      if (isAccepted || !(isRejected || isDropped)) return "accept"
      const doors = rules.filter((rule) => rule.family === family && rule.table === table).map(doorOf)
      const door = (["open", "unknown"] as const).find((one) => doors.includes(one))
      if (door !== undefined) return door === "open" ? "accept" : "unknown"
      return isRejected ? "reject" : "drop"
    })
  return outcomes.length === 0 ? "accept" : strictest(outcomes)
}

const strictest = (outcomes: ReadonlyArray<InputDefault>): InputDefault =>
  (["drop", "unknown", "reject", "accept"] as const).find((one) => outcomes.includes(one)) ?? "unknown"

const Match = Schema.Struct({
  op: Schema.String,
  left: Schema.Record(Schema.String, Schema.Unknown),
  right: Schema.Unknown
})
const decodeMatch = Schema.decodeUnknownOption(Match)
const Key = Schema.Struct({ key: Schema.String })
const Field = Schema.Struct({ protocol: Schema.String, field: Schema.String })
const decodeKey = Schema.decodeUnknownOption(Key)
const decodeField = Schema.decodeUnknownOption(Field)
const Ranged = Schema.Struct({ range: Schema.Tuple([Schema.Number, Schema.Number]) })
const decodeRange = Schema.decodeUnknownOption(Ranged)
const SetOf = Schema.Struct({ set: Schema.Array(Schema.Unknown) })
const decodeSet = Schema.decodeUnknownOption(SetOf)

/** Told by number on hosts without /etc/protocols. */
const UDP = 17

/** Whether more than one port of those that servers draw from is between the two. */
const isRange = (first: number, last: number): boolean => last > Math.max(first, PORT_FIRST)

const isWide = (op: string, right: unknown): boolean => {
  if ([">", ">="].includes(op)) return true
  if (op !== "==") return false
  const parts = Option.match(decodeSet(right), { onNone: () => [right], onSome: ({ set }) => set })
  return parts.some((part) => Option.exists(decodeRange(part), ({ range: [first, last] }) => isRange(first, last)))
}

/** Whether a rule lets in UDP from anywhere to a range of the server's ports; a condition that is not looked at shuts it. */
const doorOf = ({ expr }: { readonly expr: ReadonlyArray<Readonly<Record<string, unknown>>> }) => {
  if (!expr.some((part) => "accept" in part)) return "shut"
  let isUdp = false
  let isOpen = false
  let isOpaque = false
  for (const part of expr) {
    if ("xt" in part) isOpaque = true
    if (!("match" in part)) continue
    const match = Option.getOrUndefined(decodeMatch(part.match))
    if (match === undefined) return "shut"
    const key = Option.getOrUndefined(decodeKey(match.left.meta))?.key
    const field = Option.getOrUndefined(decodeField(match.left.payload))
    if (key === "l4proto" && match.op === "==" && (match.right === "udp" || match.right === UDP)) isUdp = true
    else if ((key === "iif" || key === "iifname") && match.op === "==" && match.right !== "lo") continue
    else if (field?.protocol === "udp" && field.field === "dport" && isWide(match.op, match.right)) isOpen = true
    else return "shut"
  }
  if (isOpaque) return isUdp ? "unknown" : "shut"
  return isOpen || isUdp ? "open" : "shut"
}

/** By `iptables -S`, weighed in the same way. */
export const ofIptables = (listing: string): InputDefault => {
  const lines = listing.split("\n").filter((line) => line !== "")
  const policy = lines.find((line) => line.startsWith("-P INPUT "))?.slice("-P INPUT ".length)
  if (policy === undefined) return "unknown"
  const last = lines.findLast((line) => line.startsWith("-A INPUT ")) ?? ""
  const isRejected = /^-A INPUT -j REJECT( --reject-with \S+)?$/.test(last)
  const isDropped = policy === "DROP" || /^-A INPUT -j DROP$/.test(last)
  if (!isRejected && !isDropped) return "accept"
  if (lines.some(isOpenLine)) return "accept"
  return isRejected ? "reject" : "drop"
}

const isOpenLine = (line: string): boolean => {
  const ports = /^-A \S+(?: -i (?!lo )\S+)? -p udp(?: -m (?:udp|multiport))? --dports? (\S+) -j ACCEPT$/.exec(line)?.[1]
  const ranges = ports?.split(",").map((range) => range.split(":").map(Number)) ?? []
  return ranges.some(([first = 0, last = first]) => isRange(first, last))
}
