/** The router that datagrams to the internet leave by, where the system tells: Linux. */
import { readFile } from "node:fs/promises"
import * as Effect from "effect/Effect"

const UP_AND_GATEWAY = 0x3
const UNSPECIFIED = "00000000"

/** The gateway of the default route with the lowest metric in a `/proc/net/route`, whose addresses are in host order. */
export const ofRoutes = (table: string): string | undefined => {
  let best: { readonly gateway: string; readonly metric: number } | undefined
  for (const line of table.split("\n").slice(1)) {
    const [, destination, gateway = "", flags = "", , , metric = "", mask] = line.trim().split(/\s+/)
    const isDefault = destination === UNSPECIFIED && mask === UNSPECIFIED && /^[0-9A-F]{8}$/.test(gateway)
    if (!isDefault || (Number.parseInt(flags, 16) & UP_AND_GATEWAY) !== UP_AND_GATEWAY) continue
    if (best === undefined || Number(metric) < best.metric) best = { gateway, metric: Number(metric) }
  }
  if (best === undefined) return undefined
  const bytes = best.gateway.match(/../g) ?? []
  return bytes
    .reverse()
    .map((byte) => Number.parseInt(byte, 16))
    .join(".")
}

export const find: Effect.Effect<string | undefined> = Effect.tryPromise(() =>
  readFile("/proc/net/route", "utf8")
).pipe(
  Effect.map(ofRoutes),
  Effect.orElseSucceed(() => undefined)
)
