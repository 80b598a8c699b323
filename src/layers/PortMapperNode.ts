/**
 * The router before this host, by node:dgram for PCP and NAT-PMP, and through `@achingbrain/nat-port-mapper` for UPnP: what
 * takes SSDP, XML and SOAP is its work, and it is loaded when it is first needed. (Its NAT-PMP is not used: it asks once, takes
 * an answer from anybody, and counts lifetimes in other units than the router.)
 */
import * as Dgram from "node:dgram"
import type { Gateway } from "@achingbrain/nat-port-mapper"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { isPort } from "../domain/protocol/Address.ts"
import { canonicalHost } from "../domain/protocol/AddressCodec.ts"
import * as PortControl from "../domain/protocol/PortControl.ts"
import { Crypto } from "../services/Crypto.ts"
import { type Mapping, PortMapper, PortMapperError } from "../services/PortMapper.ts"
import * as DefaultRouter from "./DefaultRouter.ts"

/** Milliseconds after each copy of a request; a router on our own network is near. */
const WAITS_MS = [250, 500, 1000, 2000]
/** The same for words that need no answer. */
const FAREWELL_MS = [500]
/** Seconds that are asked for: two hours by PCP and NAT-PMP (RFC 6886 section 3.3), an hour by UPnP. */
const LIFETIME_SECONDS = 7200
const UPNP_LIFETIME_MS = 3_600_000
/** Milliseconds for all that UPnP takes: a search by multicast, a description, two calls. */
const UPNP_PATIENCE_MS = 8000
const DESCRIPTION = "clawchat"

export interface Options {
  /** The router's address; `undefined` where there is none. */
  readonly router: Effect.Effect<string | undefined>
  /** Where it listens for PCP and NAT-PMP. */
  readonly port: number
  /** A UPnP router's description, or whether to search for one. */
  readonly upnp: URL | boolean
}

const connect = (host: string, port: number) =>
  Effect.acquireRelease(
    Effect.callback<Dgram.Socket | undefined>((resume) => {
      const socket = Dgram.createSocket("udp4")
      const failed = (): void => {
        socket.close()
        resume(Effect.succeed(undefined))
      }
      socket.once("error", failed)
      socket.once("connect", () => {
        socket.off("error", failed)
        // Whoever sends hears of it; until then it is nobody's.
        socket.on("error", () => {})
        resume(Effect.succeed(socket))
      })
      socket.connect(port, host)
    }),
    (socket) => Effect.sync(() => socket?.close())
  )

/** Our address towards a host. */
const facing = (host: string) =>
  Effect.scoped(Effect.map(connect(host, PortControl.PORT_CONTROL_PORT), (socket) => socket?.address().address))

/** What a host answers, and our address towards it; nothing when it stays silent. Strangers are not heard. */
const exchange = <A>(
  host: string,
  port: number,
  waits: ReadonlyArray<number>,
  request: (client: string) => Uint8Array,
  decode: (bytes: Uint8Array, client: string) => A | undefined
) =>
  Effect.gen(function* () {
    const socket = yield* connect(host, port)
    if (socket === undefined) return undefined
    const client = socket.address().address
    const heard = yield* Deferred.make<A | undefined>()
    socket.on("message", (bytes) => {
      const answer = decode(bytes, client)
      if (answer !== undefined) Deferred.doneUnsafe(heard, Effect.succeed(answer))
    })
    // Nobody listens there.
    socket.on("error", () => Deferred.doneUnsafe(heard, Effect.succeed(undefined)))
    const bytes = request(client)
    const send = Effect.forEach(
      waits,
      (ms) =>
        Effect.andThen(
          Effect.sync(() => socket.send(bytes, () => {})),
          Effect.sleep(ms)
        ),
      { discard: true }
    )
    const answer = yield* Effect.raceFirst(Deferred.await(heard), Effect.as(send, undefined))
    return answer === undefined ? undefined : { answer, client }
  }).pipe(Effect.scoped)

const refusal = (protocol: Mapping["protocol"], router: string, why: string): PortMapperError =>
  new PortMapperError({
    reason: "Refused",
    message: `the router ${router} does not map a port by ${protocol}: ${why}`
  })

const noRouter = new PortMapperError({
  reason: "NoRouter",
  message: "no router answers PCP, NAT-PMP or UPnP"
})

/** What the library says of a failure, in one line of its own making or the system's. */
const wordsOf = (cause: unknown): string =>
  (cause instanceof Error ? cause.message : String(cause)).replace(/[\p{Cc}\s]+/gu, " ").slice(0, 200)

export const layerWith = (options: Options): Layer.Layer<PortMapper, never, Crypto> =>
  Layer.effect(
    PortMapper,
    Effect.gen(function* () {
      const { entropy } = yield* Crypto
      const nonce = entropy(PortControl.PCP_NONCE_LENGTH)
      const { port: routerPort } = options

      const requestOf = (
        client: string,
        port: number,
        before: Mapping | undefined,
        lifetime = LIFETIME_SECONDS
      ): PortControl.MapRequest => ({
        nonce,
        client,
        port,
        wanted: { host: before?.outside.host, port: before?.outside.port ?? port },
        lifetime
      })

      const byPcp = Effect.fnUntraced(function* (router: string, port: number, before: Mapping | undefined) {
        const found = yield* exchange(
          router,
          routerPort,
          WAITS_MS,
          (client) => PortControl.pcpMap(requestOf(client, port, before)),
          (bytes, client) => PortControl.decodePcpMap(bytes, requestOf(client, port, before))
        )
        if (found === undefined || found.answer.type === "otherVersion") return found?.answer
        const { answer, client } = found
        if (answer.type === "refused") return yield* refusal("PCP", router, answer.why)
        return mapping("PCP", router, client, port, answer.host ?? "", answer.port, answer.lifetime)
      })

      const byNatPmp = Effect.fnUntraced(function* (router: string, port: number, before: Mapping | undefined) {
        const request = requestOf("", port, before)
        const found = yield* exchange(
          router,
          routerPort,
          WAITS_MS,
          () => PortControl.natPmpMap(request),
          (bytes) => PortControl.decodeNatPmpMap(bytes, request)
        )
        if (found === undefined || found.answer.type === "otherVersion") return undefined
        const { answer, client } = found
        if (answer.type === "refused") return yield* refusal("NAT-PMP", router, answer.why)
        const outside = yield* natPmpOutside(router)
        if (outside === undefined) return yield* refusal("NAT-PMP", router, "it does not tell its address")
        return mapping("NAT-PMP", router, client, port, outside, answer.port, answer.lifetime)
      })

      const natPmpOutside = Effect.fnUntraced(function* (router: string) {
        const found = yield* exchange(
          router,
          routerPort,
          WAITS_MS,
          PortControl.natPmpAddress,
          PortControl.decodeNatPmpAddress
        )
        return found !== undefined && "host" in found.answer ? found.answer.host : undefined
      })

      /** One step of UPnP; what fails after a router was found is its refusal. */
      const upnpStep = <A>(router: string, step: (signal: AbortSignal) => Promise<A>) =>
        Effect.tryPromise({ try: step, catch: (cause) => refusal("UPnP", router, wordsOf(cause)) })

      const findUpnp = upnpStep("on this network", async (signal): Promise<Gateway | undefined> => {
        const { upnp } = options
        if (upnp === false) return undefined
        const { upnpNat } = await import("@achingbrain/nat-port-mapper")
        const nat = upnpNat({ autoRefresh: false, description: DESCRIPTION })
        if (upnp !== true) return nat.getGateway(upnp, { signal })
        for await (const router of nat.findGateways({ signal })) if (router.family === "IPv4") return router
        return undefined
      })

      const withUpnp = <A>(use: (router: Gateway) => Effect.Effect<A, PortMapperError>) =>
        findUpnp.pipe(
          Effect.flatMap((router) => (router === undefined ? Effect.succeed(undefined) : use(router))),
          Effect.timeoutOrElse({ duration: UPNP_PATIENCE_MS, orElse: () => Effect.succeed(undefined) })
        )

      const byUpnp = (port: number, before: Mapping | undefined) =>
        withUpnp(
          Effect.fnUntraced(function* (router) {
            const inside = (yield* facing(router.host)) ?? ""
            const { externalHost, externalPort } = yield* upnpStep(router.host, (signal) =>
              router.map(port, inside, {
                protocol: "udp",
                externalPort: before?.outside.port ?? port,
                ttl: UPNP_LIFETIME_MS,
                autoRefresh: false,
                signal
              })
            )
            return mapping("UPnP", router.host, inside, port, externalHost, externalPort, UPNP_LIFETIME_MS / 1000)
          })
        )

      const mapping = (
        protocol: Mapping["protocol"],
        router: string,
        inside: string,
        port: number,
        outside: string,
        outsidePort: number,
        lifetime: number
      ): Mapping | PortMapperError => {
        const host = typeof outside === "string" ? canonicalHost(outside) : undefined
        if (host === undefined || !isPort(outsidePort) || lifetime === 0) {
          return refusal(protocol, router, "its answer makes no sense")
        }
        return {
          protocol,
          router,
          inside: { host: inside, port },
          outside: { host, port: outsidePort },
          lifetimeMs: lifetime * 1000
        }
      }

      const byControl = Effect.fnUntraced(function* (port: number, before: Mapping | undefined) {
        const router = yield* options.router
        if (router === undefined) return undefined
        const first = yield* byPcp(router, port, before)
        // Old routers do not know the version, and older ones say nothing to it.
        const isOther = first === undefined || ("type" in first && first.type === "otherVersion")
        return isOther ? yield* byNatPmp(router, port, before) : first
      })

      const map: PortMapper["Service"]["map"] = Effect.fn("PortMapper.map")(function* (port, before) {
        const ways = [byControl, byUpnp]
        let refused: PortMapperError | undefined
        for (const way of before?.protocol === "UPnP" ? ways.reverse() : ways) {
          const found = yield* Effect.catch(way(port, before), (error) => Effect.succeed(error))
          if (found instanceof PortMapperError) refused ??= found
          else if (found !== undefined && "outside" in found) return found
        }
        return yield* refused ?? noRouter
      })

      const unmap: PortMapper["Service"]["unmap"] = Effect.fn("PortMapper.unmap")(function* (given) {
        const { inside, protocol, router } = given
        if (protocol === "UPnP") return
        const request = requestOf(inside.host, inside.port, given, 0)
        const isPcp = protocol === "PCP"
        yield* exchange(
          router,
          routerPort,
          FAREWELL_MS,
          () => (isPcp ? PortControl.pcpMap(request) : PortControl.natPmpMap(request)),
          (bytes) => (isPcp ? PortControl.decodePcpMap(bytes, request) : PortControl.decodeNatPmpMap(bytes, request))
        )
      })

      const look: PortMapper["Service"]["look"] = Effect.gen(function* () {
        const router = yield* options.router
        if (router !== undefined) {
          const pcp = yield* exchange(
            router,
            routerPort,
            WAITS_MS,
            PortControl.pcpAnnounce,
            PortControl.decodePcpAnnounce
          )
          if (pcp?.answer === true) return { protocol: "PCP" as const, router, outside: undefined }
          const outside = yield* natPmpOutside(router)
          if (outside !== undefined) return { protocol: "NAT-PMP" as const, router, outside }
        }
        const found = yield* withUpnp((router) =>
          Effect.map(
            upnpStep(router.host, (signal) => router.externalIp({ signal })),
            (outside) => ({ router: router.host, outside: canonicalHost(outside) })
          )
        )
        return found === undefined ? yield* noRouter : { protocol: "UPnP" as const, ...found }
      })

      return PortMapper.of({ map, unmap, look })
    })
  )

export const layer: Layer.Layer<PortMapper, never, Crypto> = layerWith({
  router: DefaultRouter.find,
  port: PortControl.PORT_CONTROL_PORT,
  upnp: true
})
