/** This host's own addresses, as its interfaces have them now. */
import { networkInterfaces } from "node:os"
import * as Effect from "effect/Effect"

const isLinkLocal = (host: string): boolean => /^(169\.254\.|fe[89ab][0-9a-f]:)/i.test(host)

/** Numeric addresses by which others may reach this host, IPv4 first. */
export const addresses: Effect.Effect<ReadonlyArray<string>> = Effect.sync(() =>
  Object.values(networkInterfaces())
    .flatMap((all) => all ?? [])
    .filter(({ address, internal }) => !internal && !isLinkLocal(address))
    .map(({ address }) => address)
    .sort((a, b) => Number(a.includes(":")) - Number(b.includes(":")))
)
