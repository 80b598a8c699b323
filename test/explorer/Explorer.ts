/**
 * Runs a plan of weather over whole tiers and says what was wrong with the world that came of it. What must hold:
 *
 *     while it blows    every answer whole; no nonce twice under a key; no stranger gets a byte; sessions bounded
 *     when it is over   every client talks again within HEAL_MS
 *     in the end        every question stands in the transcript once, answered, in the order of its client; every
 *                       connection that is not in use has been reported closed; nothing is left behind
 *     after COMPROMISED who is out knows it and stays out; who is not, talks on; a new device gets in
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { fromHex, text } from "../../src/domain/protocol/Cursor.ts"
import * as PortSchedule from "../../src/domain/protocol/PortSchedule.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import type * as SimulatedNetwork from "../../src/layers/SimulatedNetwork.ts"
import { UdpSocket } from "../../src/services/UdpSocket.ts"
import * as World from "../worlds/World.ts"
import { Nonces } from "./Nonces.ts"
import * as Stranger from "./Stranger.ts"
import type { Finale, Happening, NatKind, Place, Plan } from "./Weather.ts"

/** Milliseconds in which everybody talks again once the weather is over. */
const HEAL_MS = 60_000
/** Milliseconds in which a question is answered then. */
const ANSWER_MS = 10_000
/** Milliseconds in which all keys are burnt, and everybody knows who can be told. */
const BURN_MS = 10_000
/** Milliseconds after which nobody takes a dead session for a live one. */
const DEAD_MS = 30_000
/** Milliseconds after which whatever has ended is forgotten: idle time-outs, half-open sessions. */
const FORGET_MS = 100_000
/** Questions of a client after which it talks less. */
const TALKATIVE = 20
const CALM = { delayMs: 20 }

export interface Outcome {
  readonly faults: ReadonlyArray<string>
  readonly questions: number
  readonly packets: number
  /** Milliseconds until everybody talked again. */
  readonly healMs: number
  readonly strange: number
}

/** A client and who uses it. */
class Actor {
  readonly client: World.Client
  nat: SimulatedNetwork.Nat | undefined
  /** Questions answered. */
  asked = 0
  over = false
  /** Its process is gone, or asleep. */
  away = false
  died = Deferred.makeUnsafe<void>()
  lives = Deferred.makeUnsafe<void>()
  cuts = 0
  firewalled = false

  constructor(client: World.Client, nat: SimulatedNetwork.Nat | undefined) {
    this.client = client
    this.nat = nat
  }
}

interface Watch {
  readonly nonces: Nonces
  readonly stranger: Stranger.Stranger
  readonly firewalled: Set<string>
  readonly serverPorts: Set<number>
  now: () => number
}

const shown = (file: Option.Option<Uint8Array>): string =>
  Option.match(file, { onNone: () => "", onSome: (bytes) => text(bytes) ?? "" })

const questionOf = (actor: Actor, n: number): string => `question ${n} of ${actor.client.name}`

const first = (cause: Cause.Cause<unknown>): string => Cause.pretty(cause).split("\n").slice(0, 3).join(" | ")

class Run {
  readonly plan: Plan
  readonly world: World.World
  readonly watch: Watch
  readonly faults: Array<string> = []
  readonly actors: Array<Actor> = []
  readonly down = new Set<"server" | "llm">()
  serverCuts = 0
  healMs = 0

  constructor(plan: Plan, world: World.World, watch: Watch) {
    this.plan = plan
    this.world = world
    this.watch = watch
  }

  nat(kind: NatKind, address: string, place?: Place): SimulatedNetwork.Nat {
    const { network } = this.world
    const timeoutMs = place?.natTimeoutMs ?? 60_000
    if (place?.carrier !== true) return network.nat({ address, kind, timeoutMs })
    const behind = network.nat({ address, kind: "symmetric", timeoutMs })
    return network.nat({ address: "100.64.0.2", kind, timeoutMs, behind })
  }

  /** Asks one question after the other; one that its client did not survive is asked again. */
  talk(actor: Actor): Effect.Effect<void> {
    const random = this.world.network.random(`talk ${actor.client.name}`)
    const one = Effect.suspend(() => {
      const asking = Effect.map(actor.client.ask(actor.asked), ({ text }) => {
        const question = questionOf(actor, actor.asked)
        if (text !== World.answerTo(question)) this.faults.push(`${question}: answered ${JSON.stringify(text)}`)
        actor.asked++
      })
      return Effect.raceFirst(asking, Deferred.await(actor.died))
    })
    const step = Effect.gen({ self: this }, function* () {
      yield* Effect.suspend(() => Deferred.await(actor.lives))
      const exit = yield* Effect.exit(one)
      if (Exit.isFailure(exit)) {
        this.faults.push(`${questionOf(actor, actor.asked)}: ${first(exit.cause)}`)
        actor.over = true
      }
      // Enough was said to notice what is lost.
      const more = actor.asked < TALKATIVE ? 0 : 5000
      yield* Effect.sleep(random.below(this.plan.pauseMs) + 1 + more)
    })
    const loop: Effect.Effect<void> = Effect.suspend(() => (actor.over ? Effect.void : Effect.andThen(step, loop)))
    return loop
  }

  /** Brings a client in with a fresh file. */
  readonly join = Effect.fnUntraced(function* (this: Run, place: Place) {
    const index = this.actors.length
    const nat = place.nat === undefined ? undefined : this.nat(place.nat, `203.0.113.${1 + index}`, place)
    const client = yield* this.world.client({ link: place.link, ...(nat === undefined ? {} : { nat }) })
    const actor = new Actor(client, nat)
    const relay = yield* this.world.server.made
    yield* Effect.orDie(relay.control.renew)
    const link = yield* Effect.flatMap(Effect.orDie(this.world.pairing), client.tier.start)
    this.actors.push(actor)
    yield* Deferred.succeed(actor.lives, undefined)
    return { actor, link }
  })

  end(actor: Actor, how: "kill" | "stop"): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { died } = actor
      actor.away = true
      actor.lives = Deferred.makeUnsafe()
      actor.died = Deferred.makeUnsafe()
      if (how === "kill") this.watch.stranger.onKilled(this.watch.now(), actor.client.name)
      return Effect.andThen(Deferred.succeed(died, undefined), actor.client.tier[how])
    })
  }

  begin(actor: Actor): Effect.Effect<void> {
    return Effect.andThen(
      actor.client.tier.start(undefined),
      Effect.suspend(() => {
        actor.away = false
        return Deferred.succeed(actor.lives, undefined)
      })
    )
  }

  cut(actor: Actor | undefined, forMs: number): Effect.Effect<void> {
    const { network, serverHost } = this.world
    const host = actor?.client.host ?? serverHost
    const count = (by: number): number => {
      if (actor === undefined) this.serverCuts += by
      else actor.cuts += by
      return actor === undefined ? this.serverCuts : actor.cuts
    }
    return Effect.andThen(
      Effect.suspend(() => (count(1) === 1 ? network.cut(host) : Effect.void)),
      Effect.andThen(
        Effect.sleep(forMs),
        Effect.suspend(() => (count(-1) === 0 ? network.restore(host) : Effect.void))
      )
    )
  }

  /** One happening to its end; what makes no sense as things are, does not happen. */
  readonly happen: (happening: Happening, index: number) => Effect.Effect<void, never, Scope.Scope> = Effect.fnUntraced(
    function* (this: Run, happening: Happening, index: number) {
      const { network } = this.world
      const who = "who" in happening && typeof happening.who === "number" ? this.actors[happening.who] : undefined
      switch (happening.what) {
        case "kill":
        case "stop": {
          if (happening.who === "server" || happening.who === "llm") {
            if (this.down.has(happening.who)) return
            this.down.add(happening.who)
            this.watch.stranger.onKilled(this.watch.now(), happening.who)
            const tier = this.world[happening.who]
            yield* tier[happening.what]
            yield* Effect.sleep(happening.backMs)
            yield* tier.start()
            this.down.delete(happening.who)
            return
          }
          if (who === undefined || who.away) return
          yield* this.end(who, happening.what)
          yield* Effect.sleep(happening.backMs)
          return yield* this.begin(who)
        }
        case "cut":
          if (happening.who !== "server" && who === undefined) return
          return yield* this.cut(who, happening.forMs)
        case "link":
          if (happening.who !== "server" && who === undefined) return
          return yield* network.setLink(who?.client.host ?? this.world.serverHost, happening.link)
        case "rebind":
          if (who?.nat === undefined) return
          return yield* network.rebind(who.nat, happening.address)
        case "move": {
          if (who === undefined) return
          const nat = happening.nat === undefined ? undefined : this.nat(happening.nat, `203.0.113.${150 + index}`)
          who.nat = nat
          return yield* network.move(who.client.host, {
            address: happening.to,
            ...(nat === undefined ? {} : { nat })
          })
        }
        case "sleep": {
          if (who === undefined || who.away) return
          who.away = true
          who.client.clock.suspend()
          yield* this.cut(who, happening.forMs)
          who.client.clock.resume()
          who.away = false
          return
        }
        case "clock":
          if (who !== undefined) who.client.clock.skewMs = happening.skewMs
          return
        case "rekey": {
          if (who === undefined || who.away) return
          const state = yield* Effect.flatMap(who.client.tier.made, (link) => link.state)
          return yield* state._tag === "Connected" ? state.session.connection.rekey : Effect.void
        }
        case "occupy":
          return yield* this.occupy(happening.count)
        case "firewall":
          if (who === undefined) return
          this.watch.firewalled.add(who.client.name)
          yield* Effect.sleep(happening.forMs)
          this.watch.firewalled.delete(who.client.name)
          return
        case "stranger":
          return yield* this.disturb(happening.datagrams)
        case "pair":
          if (!this.down.has("server")) yield* this.newcomer
          return
      }
    }
  ).bind(this)

  /** Another device, if the server lives long enough to let it in. */
  get newcomer(): Effect.Effect<void, never, Scope.Scope> {
    const place: Place = { nat: undefined, carrier: false, natTimeoutMs: 60_000, link: CALM }
    return Effect.flatMap(Effect.exit(this.join(place)), (exit) =>
      Exit.isSuccess(exit) ? this.talking(exit.value.actor) : Effect.void
    )
  }

  readonly fibers = new Map<Actor, Fiber.Fiber<void>>()

  talking(actor: Actor): Effect.Effect<void, never, Scope.Scope> {
    return Effect.map(Effect.forkScoped(this.talk(actor)), (fiber) => {
      this.fibers.set(actor, fiber)
    })
  }

  /** All the ports that the server may have had in the periods from `back` before this one to the next. */
  readonly ports = Effect.fnUntraced(function* (this: Run, back: number) {
    const { disk, serverPaths } = this.world
    const file = yield* Effect.orDie(disk.read(serverPaths.portSeed))
    const seed = Option.flatMapNullishOr(file, (bytes) => fromHex(text(bytes)?.trim() ?? ""))
    if (Option.isNone(seed)) return []
    const schedule = PortSchedule.make(primitives, seed.value, this.plan.portRotationMs)
    const next = schedule.periodAt(World.START + this.watch.now()) + 1
    return Array.from({ length: back + 2 }, (_, n) => schedule.portsOf(next - n))
  })

  readonly occupy = Effect.fnUntraced(function* (this: Run, count: number) {
    const [next = []] = yield* this.ports(-1)
    for (const port of next.slice(0, count)) {
      yield* Effect.flatMap(UdpSocket, (sockets) => sockets.bind({ host: "0.0.0.0", port })).pipe(
        Effect.provide(this.world.serverHost.layer),
        Effect.ignore
      )
    }
  })

  #strange: Effect.Success<ReturnType<typeof Stranger.open>> | undefined

  readonly disturb = Effect.fnUntraced(function* (this: Run, datagrams: number) {
    const { network } = this.world
    const { stranger } = this.watch
    this.#strange ??= yield* Stranger.open(stranger, network.host({ address: "198.51.100.66", link: { delayMs: 3 } }))
    const random = network.random(`stranger ${stranger.sent}`)
    const targets = [{ tier: "server", host: World.SERVER }]
    for (const { client, nat } of this.actors) {
      const [host] = client.host.addresses
      if (nat === undefined && host !== undefined) targets.push({ tier: client.name, host })
    }
    for (const target of targets) {
      yield* stranger.disturb(this.#strange, random, { ...target, now: this.watch.now(), datagrams })
      yield* Effect.sleep(20)
    }
  })

  /** All weather ends; everybody must find back. */
  readonly heal = Effect.fnUntraced(function* (this: Run) {
    const { network, serverHost } = this.world
    yield* network.setLink(serverHost, { delayMs: 5 })
    for (const { client } of this.actors) yield* network.setLink(client.host, CALM)
    const from = this.watch.now()
    for (const actor of this.actors) actor.over = true
    yield* Effect.forEach(
      this.actors,
      Effect.fnUntraced(function* (this: Run, actor: Actor) {
        const fiber = this.fibers.get(actor)
        if (fiber === undefined) return
        const ended = yield* Effect.timeoutOption(Fiber.join(fiber), HEAL_MS)
        if (Option.isSome(ended)) return
        const { state } = yield* Effect.map(
          Effect.flatMap(actor.client.tier.made, (link) => link.state),
          (state) => ({ state: state._tag === "Connected" ? "connected" : `connecting, attempt ${state.attempt}` })
        )
        this.faults.push(`${questionOf(actor, actor.asked)}: no answer ${HEAL_MS} ms after the weather; ${state}`)
      }).bind(this),
      { concurrency: "unbounded", discard: true }
    )
    this.healMs = this.watch.now() - from
    if (this.faults.length > 0) return
    yield* Effect.forEach(
      this.actors,
      (actor) =>
        Effect.map(Effect.exit(Effect.timeout(actor.client.ask(actor.asked), ANSWER_MS)), (exit) => {
          if (Exit.isFailure(exit)) this.faults.push(`${questionOf(actor, actor.asked)}: ${first(exit.cause)}`)
          actor.asked++
        }),
      { concurrency: "unbounded", discard: true }
    )
  })

  /** What is there in the end. */
  readonly inspect = Effect.fnUntraced(function* (this: Run) {
    const { world, faults } = this
    const messages = yield* Effect.orDie(world.conversations.history({ conversation: "main", limit: 1_000_000 }))
    for (const actor of this.actors) {
      const own = messages.filter(({ role, text }) => role === "user" && text.endsWith(` ${actor.client.name}`))
      const wanted = Array.from({ length: actor.asked }, (_, n) => questionOf(actor, n))
      const found = own.map(({ text }) => text)
      const at = wanted.findIndex((question, n) => found[n] !== question)
      if (at >= 0 || found.length !== wanted.length) {
        faults.push(`${actor.client.name} asked ${wanted.length} and ${found.length} stand there; the ${at}th differs`)
      }
    }
    const bySeq = new Map(messages.map((message) => [message.seq, message]))
    for (const { role, seq, status, text } of messages) {
      if (status !== "complete") faults.push(`message ${seq} is ${status}`)
      if (role === "assistant" && text !== World.answerTo(bySeq.get(seq - 1)?.text ?? "")) {
        faults.push(`message ${seq} does not answer the one before it`)
      }
    }
    yield* Effect.sleep(FORGET_MS)
    const expected = [`server: ${this.actors.length}`, "llm: 1"]
    const sessions = yield* World.sessions(world)
    if (sessions.sort().join() !== expected.sort().join()) faults.push(`sessions left: ${sessions.join(", ")}`)
    const near = (yield* this.ports(1)).flat()
    // By a rendezvous, or through a hole in a translator, there is nothing to follow.
    for (const { client } of this.plan.relay === undefined ? this.actors : []) {
      const { connection } = yield* Effect.flatMap(client.tier.made, (link) => link.session)
      const { port } = yield* connection.remote
      if (!near.includes(port)) faults.push(`${client.name} has not followed the server from port ${port}`)
    }
    // The server has the line to the llm tier, too.
    const open = new Map<string, number>()
    for (const { connection, life, tier } of world.connections) {
      if (life.over) continue
      const closed = yield* Effect.timeoutOption(connection.closed, 0)
      if (Option.isNone(closed)) open.set(tier, (open.get(tier) ?? 0) + 1)
    }
    const wanted: Array<readonly [string, number]> = [
      ["server", this.actors.length + 1],
      ["llm", 1],
      ...this.actors.map(({ client }) => [client.name, 1] as const)
    ]
    for (const [tier, count] of wanted) {
      if (open.get(tier) !== count) faults.push(`${tier} has ${open.get(tier) ?? 0} open connections, not ${count}`)
    }
  })

  /** COMPROMISED, in good weather; what becomes of everybody. */
  readonly finish = Effect.fnUntraced(function* (this: Run, { by, killMs, unheard }: Finale) {
    const { actors, faults, world } = this
    const teller = actors[by === "member" ? 1 : 0]
    if (teller === undefined) return
    const key = () => Effect.map(Effect.orDie(world.disk.read(world.serverPaths.staticKey)), shown)
    const old = yield* key()
    if (unheard) {
      for (const actor of actors) if (actor !== teller) yield* Effect.forkScoped(this.cut(actor, BURN_MS))
      if (by !== "server") yield* Effect.forkScoped(this.cut(teller, BURN_MS))
    }
    if (by === "server") {
      const relay = yield* world.server.made
      yield* relay.control.compromise
    } else {
      const session = yield* Effect.flatMap(teller.client.tier.made, (link) => link.session)
      yield* Effect.forkScoped(session.compromise)
    }
    if (killMs !== undefined) {
      yield* Effect.sleep(killMs)
      this.watch.stranger.onKilled(this.watch.now(), "server")
      yield* world.server.kill
      yield* world.server.start()
    }
    // Who was not told finds its session dead.
    yield* Effect.sleep(BURN_MS + (unheard ? DEAD_MS : 0))
    const isOut = (actor: Actor): boolean => by !== "member" || actor === teller
    // A server that did not hear its owner, or was killed before, knows nothing; the owner's device is told so and says so.
    const burnt = (yield* key()) !== old
    if (by === "server" && !burnt) faults.push("COMPROMISED left the server its key")
    if (by === "member" && burnt) faults.push("a member's COMPROMISED burnt the server's key")
    for (const actor of actors) {
      const state = yield* Effect.flatMap(actor.client.tier.made, (link) => link.state)
      const out = isOut(actor) && (burnt || actor === teller)
      if (out && state._tag === "Connected") faults.push(`${actor.client.name} is connected after COMPROMISED`)
      if (out && actor === teller && state._tag === "Connecting" && state.reason?._tag !== "UnpairedError") {
        faults.push(`${actor.client.name} is not told that it is out: ${state.reason?._tag}`)
      }
      if (out) continue
      const reply = yield* Effect.exit(Effect.timeout(actor.client.ask(actor.asked++), HEAL_MS))
      if (Exit.isFailure(reply)) faults.push(`${actor.client.name} after another's COMPROMISED: ${first(reply.cause)}`)
    }
    yield* this.disturb(60)
    const { actor } = yield* this.join({ nat: undefined, carrier: false, natTimeoutMs: 60_000, link: CALM })
    const reply = yield* Effect.exit(Effect.timeout(actor.client.ask(0), HEAL_MS))
    if (Exit.isFailure(reply)) faults.push(`${actor.client.name}, new after COMPROMISED: ${first(reply.cause)}`)
    yield* this.disturb(60)
    yield* Effect.sleep(1000)
  })

  readonly check = (): void => {
    const { nonces, stranger } = this.watch
    if (nonces.repeated.length > 0) this.faults.push(`nonces repeated by ${[...new Set(nonces.repeated)].join()}`)
    if (stranger.answered > 0) this.faults.push(`a stranger got ${stranger.answered} bytes`)
  }

  /** The whole of it. */
  readonly play = Effect.fnUntraced(function* (this: Run) {
    const { plan, world } = this
    yield* world.server.start()
    yield* world.llm.start()
    yield* Effect.sleep(plan.relay === undefined ? 100 : 6000)
    for (const place of plan.places) {
      const { actor, link } = yield* this.join({ ...place, link: CALM })
      yield* link.session
      yield* world.network.setLink(actor.client.host, place.link)
    }
    yield* world.network.setLink(world.serverHost, plan.serverLink)
    // What the server says of itself is with its devices.
    yield* Effect.sleep(2000)
    for (const actor of this.actors) yield* this.talking(actor)
    const from = this.watch.now()
    const under: Array<Fiber.Fiber<void>> = []
    for (const [index, happening] of plan.happenings.entries()) {
      yield* Effect.sleep(Math.max(0, from + happening.at - this.watch.now()))
      under.push(yield* Effect.forkScoped(this.happen(happening, index)))
    }
    for (const fiber of under) yield* Fiber.join(fiber)
    yield* this.heal()
    if (this.faults.length === 0) yield* this.inspect()
    if (this.faults.length === 0 && plan.finale !== undefined) yield* this.finish(plan.finale)
    this.check()
    let packets = 0
    for (const { connection } of world.connections) packets += (yield* connection.stats).sentPackets
    return packets
  })
}

/** Lives through a plan. Never fails: what went wrong is in the outcome. */
export const explore = (plan: Plan): Effect.Effect<Outcome> => {
  const stranger = new Stranger.Stranger()
  const nonces = new Nonces()
  const firewalled = new Set<string>()
  const serverPorts = new Set<number>()
  const watch: Watch = { nonces, stranger, firewalled, serverPorts, now: () => 0 }
  let run: Run | undefined
  const options: World.WorldOptions = {
    seed: plan.seed,
    portRotationMs: plan.portRotationMs,
    keyRotationMs: plan.keyRotationMs,
    limitMs: 7_200_000,
    relay: plan.relay !== undefined,
    ...(plan.relay?.serverNat === undefined ? {} : { serverNat: plan.relay.serverNat }),
    primitives: nonces.watch,
    heard: (tier, port, bytes) => {
      if (tier === "server") serverPorts.add(port)
      stranger.record(watch.now(), tier, port, bytes)
    },
    fate: (tier, to) => (firewalled.has(tier) && to.host === World.SERVER && !serverPorts.has(to.port) ? [] : [0])
  }
  return World.run(options, (world) =>
    Effect.gen(function* () {
      const clock = yield* Effect.clockWith(Effect.succeed)
      watch.now = () => clock.currentTimeMillisUnsafe() - World.START
      run = new Run(plan, world, watch)
      return yield* run.play()
    })
  ).pipe(
    Effect.exit,
    Effect.map((exit) => {
      const faults = [...(run?.faults ?? [])]
      if (Exit.isFailure(exit)) faults.push(`the world broke down: ${first(exit.cause)}`)
      return {
        faults,
        questions: (run?.actors ?? []).reduce((sum, { asked }) => sum + asked, 0),
        packets: Exit.isSuccess(exit) ? exit.value : 0,
        healMs: run?.healMs ?? 0,
        strange: stranger.sent
      }
    })
  )
}
