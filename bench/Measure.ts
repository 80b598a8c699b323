/** One contender between two processes, on loopback or over a link; and what many rounds of that come to. */
import { type Client, type Contender, call, type Listening, listen, missing } from "./Contenders.ts"
import { median, percentile } from "./Harness.ts"
import * as Link from "./Link.ts"
import { bytesBetween } from "./Traffic.ts"

export interface Place {
  readonly host: string
  readonly link: Link.Link | undefined
}

export const LOOPBACK: Place = { host: "127.0.0.1", link: undefined }
export const MB = 1e6

/** One figure by name, as one round took it. */
export type Taken = Readonly<Record<string, number>>

/** Both processes of a contender; `use` sees them, then they end, whatever happens. */
export const between = async <A>(
  contender: Contender,
  { host, link }: Place,
  use: (client: Client, listener: Listening) => Promise<A>,
  flow = 1
): Promise<A> => {
  if (contender.tcp !== undefined) link?.tcp(contender.tcp)
  const listener = listen(contender, host, link?.enter[1])
  let client: Client | undefined
  try {
    client = call(contender, host, await listener.ask("port", 0, 20_000), flow, link?.enter[0])
    return await use(client, listener)
  } finally {
    await client?.end()
    await listener.end()
  }
}

/** A link for the time of `use`; answers also what the link did. */
export const overLink = async <A>(
  options: Link.LinkOptions,
  use: (place: Place) => Promise<A>
): Promise<readonly [A, Awaited<ReturnType<Link.Link["end"]>>]> => {
  const link = await Link.make(options)
  let ended: Awaited<ReturnType<Link.Link["end"]>> | undefined
  try {
    const answer = await use({ host: link.host, link })
    ended = await link.end()
    return [answer, ended]
  } finally {
    if (ended === undefined) await link.end()
  }
}

export interface Plan {
  readonly seconds: number
  readonly echoes: number
  readonly hashBytes: number
}

/** Connects, compares hashes, measures round trips, then a bulk whose every byte is compared. */
export const measure = (contender: Contender, place: Place, plan: Plan, flow = 1): Promise<Taken> =>
  between(
    contender,
    place,
    async (client, listener) => {
      const patience = plan.seconds * 1000 + 60_000
      const [greeting] = await client.ask("greet", 1, patience)
      if (!(await client.ask("hash", plan.hashBytes, patience))) throw new Error("the hashes differ")
      const trips = await client.ask("echo", plan.echoes, patience)
      const cpu = async () => (await client.ask("cpu")) + (await listener.ask("cpu"))
      const before = await cpu()
      const { from, to } = await client.ask("bulk", plan.seconds, patience)
      const used = (await cpu()) - before
      const received = await listener.ask("received", flow)
      const packets = contender.variant === undefined ? undefined : await client.ask("packets")
      if (received.wrong) throw new Error("wrong bytes arrived")
      const bytes = bytesBetween(received, from, to)
      return {
        rate: bytes / MB / ((to - from) / 1000),
        cpu: used / (bytes / 1e9),
        ready: greeting?.ready ?? Number.NaN,
        answer: greeting?.answer ?? Number.NaN,
        resent: packets === undefined ? Number.NaN : (100 * packets.lost) / packets.sent,
        echo50: median(trips),
        echo99: percentile(trips, 0.99),
        peak: ((await client.ask("peak")) + (await listener.ask("peak"))) / MB
      }
    },
    flow
  )

// -- many rounds ---------------------------------------------------------------------------------------------------

/** All rounds of one contender. */
class Rounds {
  readonly #taken: Array<Taken> = []
  /** Why the last round that failed did. */
  failure: string | undefined

  add(taken: Taken): void {
    this.#taken.push(taken)
  }

  get count(): number {
    return this.#taken.length
  }

  /** The median; NaN when no round took it. */
  of(key: string): number {
    return median(this.#taken.flatMap((taken) => taken[key] ?? []))
  }
}

export type Results = ReadonlyMap<string, Rounds>

/** Each round asks every contender in turn. */
export const rounds = async (
  contenders: ReadonlyArray<Contender>,
  count: number,
  take: (contender: Contender) => Promise<Taken>
): Promise<Results> => {
  const results = new Map(contenders.map(({ name }) => [name, new Rounds()]))
  for (let round = 0; round < count; round++) {
    for (const contender of contenders) {
      const into = results.get(contender.name)
      if (into === undefined) continue
      const why = missing(contender)
      if (why !== undefined) {
        into.failure = why
        continue
      }
      try {
        into.add(await take(contender))
      } catch (error) {
        into.failure = error instanceof Error ? error.message : String(error)
        console.error(`${contender.name}: ${into.failure}`)
      }
    }
  }
  return results
}

/** Contenders or scenarios chosen by `--only`; all when none of its words fits any. */
export const chosen = <A extends { readonly name: string }>(
  all: ReadonlyArray<A>,
  only: ReadonlyArray<string>
): ReadonlyArray<A> => {
  const some = all.filter(({ name }) => only.some((word) => name.includes(word)))
  return some.length > 0 ? some : all
}

/** The best of a figure among rivals that have it. */
export const bestRival = (
  contenders: ReadonlyArray<Contender>,
  results: Results,
  key: string
): { readonly name: string; readonly value: number } | undefined => {
  let best: { readonly name: string; readonly value: number } | undefined
  for (const { name, variant } of contenders) {
    const value = results.get(name)?.of(key) ?? Number.NaN
    if (variant === undefined && value > (best?.value ?? 0)) best = { name, value }
  }
  return best
}
