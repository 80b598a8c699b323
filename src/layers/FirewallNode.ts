/** What this host's system tells of its firewall. Linux only; elsewhere nothing is known. */
import { execFile } from "node:child_process"
import { readFile } from "node:fs/promises"
import * as Effect from "effect/Effect"
import * as Firewall from "../domain/Firewall.ts"

const text = (path: string): Effect.Effect<string> =>
  Effect.tryPromise(() => readFile(path, "utf8")).pipe(Effect.orElseSucceed(() => ""))

/** ICMP "unreachable" messages that this host has sent since it started; `undefined` where the system does not count. */
export const unreachablesSent = Effect.map(
  Effect.all([text("/proc/net/snmp"), text("/proc/net/snmp6")], { concurrency: 2 }),
  ([v4, v6]) => Firewall.unreachablesSent(v4, v6)
)

const RULES_TIMEOUT_MS = 3000
const MAX_RULES_BYTES = 4 * 1024 * 1024

/** The output of a program that lists rules; empty where it is missing, not allowed, or slow. */
const rules = (program: string, args: ReadonlyArray<string>): Effect.Effect<string> =>
  Effect.callback((resume) => {
    const child = execFile(
      program,
      args,
      { timeout: RULES_TIMEOUT_MS, maxBuffer: MAX_RULES_BYTES, env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" } },
      (error, stdout) => resume(Effect.succeed(error === null ? stdout : ""))
    )
    return Effect.sync(() => void child.kill())
  })

/** What the packet filter does with datagrams that no rule of it lets in; "unknown" for users who may not read it. */
export const inputDefault: Effect.Effect<Firewall.InputDefault> = Effect.gen(function* () {
  if (process.platform !== "linux" || process.geteuid?.() !== 0) return "unknown"
  const nft = Firewall.ofNft(yield* rules("nft", ["-j", "list", "ruleset"]))
  return nft === "unknown" ? Firewall.ofIptables(yield* rules("iptables", ["-S"])) : nft
})
