/** The router before this host, asked to forward a UDP port to it: by PCP, NAT-PMP or UPnP, whichever it speaks. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Address } from "../domain/protocol/Address.ts"

export type Protocol = "PCP" | "NAT-PMP" | "UPnP"

/**
 * - `NoRouter`: nobody who could be asked answers.
 * - `Refused`: one answers, and will not.
 */
export class PortMapperError extends Data.TaggedError("PortMapperError")<{
  readonly reason: "NoRouter" | "Refused"
  /** One line for people. */
  readonly message: string
}> {}

/** A port of the router that leads to one of ours. */
export interface Mapping {
  readonly protocol: Protocol
  /** The router's address on our side. */
  readonly router: string
  /** Our address and port. */
  readonly inside: Address
  /** What the router says it is outside; whether that is a public address is for the caller to look at. */
  readonly outside: Address
  /** Milliseconds for which it holds. */
  readonly lifetimeMs: number
}

/** Who answers, without anything being mapped. */
export interface Router {
  readonly protocol: Protocol
  readonly router: string
  /** Its address outside, where the protocol tells it. */
  readonly outside: string | undefined
}

export class PortMapper extends Context.Service<
  PortMapper,
  {
    /**
     * Maps a UDP port, or renews its mapping: `before` is what it was. The same outside port is asked for, and that of
     * `before` if there is one. Takes some seconds where no router answers.
     */
    readonly map: (port: number, before?: Mapping) => Effect.Effect<Mapping, PortMapperError>
    /** Gives it back, best effort, within a second. By UPnP it is left to expire. */
    readonly unmap: (mapping: Mapping) => Effect.Effect<void>
    /** Who could be asked. */
    readonly look: Effect.Effect<Router, PortMapperError>
  }
>()("clawchat/services/PortMapper") {
  /** No router. */
  static readonly layerNone: Layer.Layer<PortMapper> = Layer.sync(PortMapper, () => {
    const none = Effect.fail(new PortMapperError({ reason: "NoRouter", message: "there is no router" }))
    return PortMapper.of({ map: () => none, unmap: () => Effect.void, look: none })
  })
}
