/** Reading what Linux says of its packet filter and its ICMP counters. */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

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
 * By `nft -j list ruleset`: the strictest of the input chains. A chain's policy counts, or a last rule that takes all;
 * rules before it are not weighed, so it is what becomes of datagrams to ports that nobody thought of.
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
      if (verdict !== undefined && "drop" in verdict) return "drop"
      if (verdict !== undefined && "reject" in verdict) return "reject"
      return policy === "drop" ? "drop" : "accept"
    })
  return outcomes.length === 0 ? "accept" : strictest(outcomes)
}

const strictest = (outcomes: ReadonlyArray<InputDefault>): InputDefault =>
  (["drop", "reject", "accept"] as const).find((one) => outcomes.includes(one)) ?? "unknown"

/** By `iptables -S INPUT`. */
export const ofIptables = (listing: string): InputDefault => {
  const lines = listing.split("\n").filter((line) => line !== "")
  const policy = lines.find((line) => line.startsWith("-P INPUT "))?.slice("-P INPUT ".length)
  if (policy === undefined) return "unknown"
  const last = lines.at(-1) ?? ""
  if (/^-A INPUT -j DROP$/.test(last)) return "drop"
  if (/^-A INPUT -j REJECT( --reject-with \S+)?$/.test(last)) return "reject"
  return policy === "DROP" ? "drop" : "accept"
}
