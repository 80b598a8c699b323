/**
 * The ports that a server listens on: a fixed one, or those of its schedule, one after the other (see PortRotation). What
 * credential files and devices are told of them comes from here.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as CredentialFile from "../domain/CredentialFile.ts"
import type { Address } from "../domain/protocol/Address.ts"
import { text, utf8 } from "../domain/protocol/Cursor.ts"
import * as PortSchedule from "../domain/protocol/PortSchedule.ts"
import { Crypto } from "../services/Crypto.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"
import type { Listener, OpenPort, TransportError } from "../services/Transport.ts"
import * as PortRotation from "./PortRotation.ts"

export interface Options {
  /** Port 0: the schedule's. */
  readonly bind: Address
  readonly publicIp: string
  /** Where a router forwards another port; then ours must stay. */
  readonly publicPort: number | undefined
  readonly seed: Uint8Array
  readonly periodMs: number
  readonly graceMs: number
  /** The file that keeps the present port, for commands while no server runs. */
  readonly lastPort: string
  readonly listen: (address: Address) => Effect.Effect<Listener, TransportError, Scope.Scope>
  readonly changed: (event: PortRotation.Event) => Effect.Effect<void>
}

export interface ServerPort {
  readonly listener: Listener
  /** The port that is served, now and after each change. */
  readonly current: SubscriptionRef.SubscriptionRef<OpenPort>
  /** All ports that are open: that one, the next when it is announced, and the last while it is served. */
  readonly open: SubscriptionRef.SubscriptionRef<ReadonlyArray<number>>
  /** Milliseconds for which a port is kept; 0 for ever. */
  readonly periodMs: number
  /** What a file that is good until then should name: the port as devices see it, and what it may be by then. */
  readonly announced: (validUntil: number) => Effect.Effect<{
    readonly port: number
    readonly candidates: ReadonlyArray<CredentialFile.Candidate>
  }>
  /** Changes ports for ever. */
  readonly run: Effect.Effect<never>
}

/** The port of the last run, as it was noted. */
const readLast = Effect.fnUntraced(function* (path: string) {
  const store = yield* SecureFileStore
  const bytes = yield* Effect.orElseSucceed(store.read(path), () => Option.none<Uint8Array>())
  const port = Number(text(Option.getOrElse(bytes, () => new Uint8Array(0))))
  return Number.isInteger(port) && port > 0 && port < 65_536 ? Option.some(port) : Option.none<number>()
})

export const make = Effect.fnUntraced(function* (options: Options) {
  const { bind, graceMs, lastPort, listen, publicIp, publicPort, seed } = options
  const store = yield* SecureFileStore
  const { primitives } = yield* Crypto
  const moves = bind.port === 0 && publicPort === undefined
  const schedule = PortSchedule.make(primitives, seed, options.periodMs)
  const noteLast = ({ address }: OpenPort) =>
    store
      .write(lastPort, utf8(`${address.port}\n`))
      .pipe(Effect.catch((error) => Effect.logWarning(`The port is not noted: ${error.message}`)))

  const now = yield* Clock.currentTimeMillis
  const isBusy = (error: TransportError): boolean => error.cause?.reason === "Busy"
  const first = (ports: ReadonlyArray<number>): Effect.Effect<Listener, TransportError, Scope.Scope> => {
    const [port, ...others] = ports
    const listening = listen({ host: bind.host, port: port ?? 0 })
    return others.length === 0 ? listening : Effect.catchIf(listening, isBusy, () => first(others))
  }
  const last = yield* readLast(lastPort)
  // Where a router forwards to us, the port that it knows must be taken again.
  const kept = Option.isSome(last) && !moves ? [last.value] : []
  const listener = yield* bind.port === 0 ? first([...kept, ...schedule.portsOf(schedule.periodAt(now))]) : listen(bind)
  yield* noteLast(listener.first)

  const open = yield* SubscriptionRef.make<ReadonlyArray<number>>([listener.first.address.port])
  const count = (event: PortRotation.Event): Effect.Effect<void> => {
    if (event.type === "PutOff") return Effect.void
    const others = SubscriptionRef.update(open, (ports) => ports.filter((port) => port !== event.port))
    if (event.type === "Closed") return others
    return Effect.andThen(
      others,
      SubscriptionRef.update(open, (ports) => [...ports, event.port])
    )
  }

  const rotation = yield* PortRotation.make({
    schedule,
    periodMs: options.periodMs,
    graceMs,
    listener,
    changed: (event) => Effect.andThen(count(event), options.changed(event))
  })
  const { current } = rotation
  const announced: ServerPort["announced"] = Effect.fnUntraced(function* (validUntil) {
    const { address } = yield* SubscriptionRef.get(current)
    const [, ...others] = moves ? yield* rotation.promise(validUntil) : []
    return {
      port: publicPort ?? address.port,
      candidates: others.map((port) => ({ kind: "host" as const, address: publicIp, port }))
    }
  })
  const note = Stream.runForEach(Stream.drop(SubscriptionRef.changes(current), 1), noteLast)
  const port: ServerPort = {
    listener,
    current,
    open,
    periodMs: moves ? options.periodMs : 0,
    announced,
    run: moves ? Effect.andThen(Effect.forkChild(note), rotation.run) : Effect.never
  }
  return port
})
