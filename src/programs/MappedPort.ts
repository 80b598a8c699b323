/**
 * The ports of a server, mapped by the router before it for as long as each is open: renewed long before they lapse, so that
 * a router that has forgotten them in a restart learns of them again, and given back when a port closes.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Candidate } from "../domain/CredentialFile.ts"
import { equals, format } from "../domain/protocol/Address.ts"
import { hostKind } from "../domain/protocol/HostKind.ts"
import type { Values } from "../domain/Settings.ts"
import { type Mapping, PortMapper, PortMapperError } from "../services/PortMapper.ts"
import { UdpSocket } from "../services/UdpSocket.ts"

/** Longest time between two requests for one port: what a router's restart costs. */
const RENEW_MS = 600_000
/** The first pause after a failure, doubled with each further one, and the longest. */
const RETRY_MS = 10_000
const MAX_RETRY_MS = 1_800_000
/** Milliseconds that giving a port back may take. */
const FAREWELL_MS = 1000

/** What became of the ports. */
export interface Mapped {
  /** Mappings whose outside is an address of the internet, by our port. */
  readonly ports: ReadonlyMap<number, Mapping>
  /** Why there is none, while there is none. */
  readonly problem: string | undefined
}

export interface Options {
  /** Who asks; `undefined` where nobody is to be asked. */
  readonly mapper: PortMapper["Service"] | undefined
  /** Ports that are open, now and after each change. */
  readonly open: SubscriptionRef.SubscriptionRef<ReadonlyArray<number>>
}

/** Whether a server gains by it: it listens on a private address, or on all of which none is public. */
export const helps = (bind: string, hosts: ReadonlyArray<string>): boolean => {
  const isWild = hostKind(bind) === "unspecified"
  const all = isWild ? hosts.filter((host) => !host.includes(":")) : [bind]
  return all.length > 0 && all.every((host) => ["private", "shared"].includes(hostKind(host) ?? ""))
}

/** Whether a server with these settings is to have its port mapped. */
export const wanted = Effect.fnUntraced(function* ({
  networking: { portMapping },
  server: { bind, publicPort }
}: Pick<Values, "networking" | "server">) {
  if (portMapping !== undefined) return portMapping
  const hosts = yield* UdpSocket.use(({ addresses }) => addresses)
  return publicPort === undefined && helps(bind, hosts)
})

const NOT_NOW = new PortMapperError({
  reason: "NoRouter",
  message: "this host has an address of the internet itself, or none at all"
})

/**
 * Who asks for a server with these settings; `undefined` where nobody ever is to. A host that gets its addresses after its
 * server has started, or moves to another network, is looked at anew with each request.
 */
export const asker = Effect.fnUntraced(function* (values: Pick<Values, "networking" | "server">) {
  const {
    networking: { portMapping },
    server: { bind, publicPort }
  } = values
  const isWild = hostKind(bind) === "unspecified"
  if (!(portMapping ?? (publicPort === undefined && (isWild || helps(bind, []))))) return undefined
  const mapper = yield* PortMapper
  const sockets = yield* UdpSocket
  const asked: PortMapper["Service"] = {
    ...mapper,
    map: (port, before) =>
      Effect.flatMap(Effect.provideService(wanted(values), UdpSocket, sockets), (isWanted) =>
        isWanted ? mapper.map(port, before) : Effect.fail(NOT_NOW)
      )
  }
  return asked
})

const NOTHING: Mapped = { ports: new Map(), problem: undefined }

/** Maps in the scope; the ports are given back at its end. Never fails, and waits for nothing. */
export const keep = Effect.fn("MappedPort.keep")(function* ({ mapper, open }: Options) {
  const mapped = yield* SubscriptionRef.make<Mapped>(NOTHING)
  if (mapper === undefined) return mapped
  const fibers = yield* FiberMap.make<number>()

  const set = (port: number, mapping: Mapping | undefined, problem: string | undefined) =>
    SubscriptionRef.update(mapped, ({ ports }) => {
      const next = new Map(ports)
      if (mapping === undefined) next.delete(port)
      else next.set(port, mapping)
      return { ports: next, problem }
    })

  const giveBack = (mapping: Mapping | undefined): Effect.Effect<void> =>
    mapping === undefined ? Effect.void : Effect.ignore(Effect.timeout(mapper.unmap(mapping), FAREWELL_MS))

  const hold = Effect.fnUntraced(function* (port: number) {
    let held: Mapping | undefined
    let until = 0
    let failures = 0
    const turn = Effect.gen(function* () {
      const found = yield* Effect.result(mapper.map(port, held))
      const now = yield* Clock.currentTimeMillis
      if (found._tag === "Failure") {
        // A router that is silent for a while may hold the port still.
        if (held !== undefined && now >= until) held = undefined
        if (held === undefined) yield* set(port, undefined, found.failure.message)
        return Math.min(RETRY_MS * 2 ** failures++, MAX_RETRY_MS)
      }
      const mapping = found.success
      const { inside, lifetimeMs, outside, protocol, router } = mapping
      if (hostKind(outside.host) !== "public") {
        yield* giveBack(mapping)
        held = undefined
        const message = `the router ${router} has no address of the internet itself, but ${outside.host}: another NAT stands before it`
        yield* set(port, undefined, message)
        failures++
        return MAX_RETRY_MS
      }
      if (held === undefined || !equals(held.outside, outside)) {
        yield* Effect.logInfo(
          `Port ${inside.port} is ${format(outside)} on the internet: ${protocol}, router ${router}`
        )
      }
      failures = 0
      held = mapping
      until = now + lifetimeMs
      yield* set(port, mapping, undefined)
      return Math.min(lifetimeMs / 2, RENEW_MS)
    })
    const forever = Effect.forever(Effect.flatMap(turn, (ms) => Effect.sleep(Duration.millis(ms))))
    yield* Effect.ensuring(
      forever,
      Effect.suspend(() => Effect.andThen(giveBack(held), set(port, undefined, undefined)))
    )
  })

  const follow = Stream.runForEach(SubscriptionRef.changes(open), (ports) =>
    Effect.gen(function* () {
      for (const [port] of [...fibers]) if (!ports.includes(port)) yield* FiberMap.remove(fibers, port)
      for (const port of ports) yield* FiberMap.run(fibers, port, hold(port), { onlyIfMissing: true })
    })
  )
  yield* Effect.forkScoped(follow)
  return mapped
})

/** What a `.sec` file may say of one of our ports. */
export const candidates = ({ ports }: Mapped, port: number): ReadonlyArray<Candidate> => {
  const mapping = ports.get(port)
  return mapping === undefined ? [] : [{ kind: "mapped", address: mapping.outside.host, port: mapping.outside.port }]
}
