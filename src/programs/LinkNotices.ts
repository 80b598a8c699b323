/** What a person should hear of a link: each change once, never the same state twice. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Printable from "../domain/Printable.ts"
import type { Link, Session, State } from "./ClientLink.ts"

export type Notice =
  /** The first connection. */
  | { readonly _tag: "Up"; readonly session: Session }
  /** There was no connection yet, and the first attempts failed. */
  | { readonly _tag: "Trying"; readonly reason: string }
  | { readonly _tag: "Lost"; readonly reason: string }
  | { readonly _tag: "Back" }
  /** The llm tier behind the server; `Here` is said only after `Away`. */
  | { readonly _tag: "TierAway" }
  | { readonly _tag: "TierBack" }

/** Milliseconds before the server is asked again for news that broke off while the connection lives. */
const PAUSE_MS = 1000
/** Milliseconds between two looks at how long a pause lasts. */
const SECOND_MS = 1000

export const changes = (link: Link): Stream.Stream<Notice> =>
  Stream.suspend(() => {
    let line: "new" | "trying" | "up" | "lost" = "new"
    let tier = true

    const ofLine = (state: State): ReadonlyArray<Notice> => {
      if (state._tag === "Connected") {
        const before = line
        line = "up"
        if (before === "up") return []
        return before === "lost" ? [{ _tag: "Back" }] : [{ _tag: "Up", session: state.session }]
      }
      const reason = state.reason === undefined ? "" : Printable.line(state.reason.message)
      if (line === "up") {
        line = "lost"
        return [{ _tag: "Lost", reason }]
      }
      if (line !== "new" || state.reason === undefined) return []
      line = "trying"
      return [{ _tag: "Trying", reason }]
    }

    const ofTier = (session: Session): Stream.Stream<Notice> =>
      session.server["Control.Watch"](undefined).pipe(
        Stream.flatMap(({ connected }): Stream.Stream<Notice> => {
          if (connected === tier) return Stream.empty
          tier = connected
          return Stream.succeed(connected ? { _tag: "TierBack" } : { _tag: "TierAway" })
        }),
        Stream.catchCause(() => Stream.empty),
        Stream.concat(Stream.fromEffectDrain(Effect.sleep(PAUSE_MS))),
        Stream.forever
      )

    return link.changes.pipe(
      Stream.switchMap((state) =>
        Stream.concat(
          Stream.fromIterable(ofLine(state)),
          state._tag === "Connected" ? ofTier(state.session) : Stream.empty
        )
      )
    )
  })

/** How a link that is away comes back. */
export interface Progress {
  readonly attempt: number
  /** Whole seconds until it begins; undefined while it is under way. */
  readonly inSeconds: number | undefined
}

/** The state of a link that is away, each second while a pause lasts; undefined once it is there. */
export const progress = (link: Link): Stream.Stream<Progress | undefined> => {
  const counting = (attempt: number, at: number): Stream.Stream<Progress> =>
    Stream.unwrap(
      Effect.map(Clock.currentTimeMillis, (now) => {
        const inSeconds = Math.max(0, Math.ceil((at - now) / 1000))
        const here = Stream.succeed<Progress>({ attempt, inSeconds })
        return inSeconds <= 1
          ? here
          : Stream.concat(here, Stream.unwrap(Effect.as(Effect.sleep(SECOND_MS), counting(attempt, at))))
      })
    )
  return link.changes.pipe(
    Stream.switchMap((state): Stream.Stream<Progress | undefined> => {
      if (state._tag === "Connected") return Stream.succeed(undefined)
      const { attempt, nextAt } = state
      return nextAt === undefined ? Stream.succeed({ attempt, inSeconds: undefined }) : counting(attempt, nextAt)
    })
  )
}

export const progressText = ({ attempt, inSeconds }: Progress): string =>
  `attempt ${attempt} ${inSeconds === undefined ? "now" : `in ${inSeconds} s`}`

/** One line for people; none for the first connection, which is greeted in another way. */
export const text = (notice: Notice): string | undefined => {
  switch (notice._tag) {
    case "Up":
      return undefined
    case "Trying":
      return `no connection yet, trying on: ${notice.reason}`
    case "Lost":
      return notice.reason === "" ? "connection lost, trying again" : `connection lost, trying again: ${notice.reason}`
    case "Back":
      return "connection is back"
    case "TierAway":
      return "the assistant is away; questions wait until it is back"
    case "TierBack":
      return "the assistant is back"
  }
}
