/** Names by the system's resolver, `/etc/hosts` and all. */
import { lookup } from "node:dns/promises"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Resolver, ResolverError } from "../services/Resolver.ts"

const PATIENCE = Duration.seconds(5)

const words: Readonly<Record<string, string>> = {
  ENOTFOUND: "has no address",
  ENODATA: "has no address",
  EAI_AGAIN: "cannot be looked up: no name server answers"
}

const refusal = (name: string, cause: unknown): ResolverError => {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : ""
  return new ResolverError({ message: `${name} ${words[code] ?? `cannot be looked up (${code})`}`, cause })
}

export const layer: Layer.Layer<Resolver> = Layer.succeed(Resolver, {
  lookup: Effect.fn("Resolver.lookup")((name: string) =>
    Effect.tryPromise({
      try: () => lookup(name, { all: true, order: "verbatim" }),
      catch: (cause) => refusal(name, cause)
    }).pipe(
      Effect.map((found) => found.map(({ address }) => address)),
      Effect.timeoutOrElse({
        duration: PATIENCE,
        orElse: () => Effect.fail(new ResolverError({ message: `${name} cannot be looked up: no answer in 5 s` }))
      })
    )
  )
})
