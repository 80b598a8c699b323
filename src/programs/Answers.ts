/**
 * The server's side of answer files: reads what a device has sent by hand, and sends a few datagrams to where that device
 * is, so that the NAT before this server lets the device's initiations in. They carry nothing and prove nothing.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Stream from "effect/Stream"
import * as AnswerFile from "../domain/AnswerFile.ts"
import { type Address, equals, format } from "../domain/protocol/Address.ts"
import type { Admission } from "../domain/protocol/Credential.ts"
import { hex } from "../domain/protocol/Cursor.ts"
import { Crypto } from "../services/Crypto.ts"
import type { Listener } from "../services/Transport.ts"

/** Datagrams to each address, the milliseconds between two of them, and their bytes, which are random. */
const PUNCHES = 30
const PUNCH_INTERVAL_MS = 500
const PUNCH_LENGTH = 48
/** Files that are punched for at a time. */
const MAX_AT_ONCE = 4
/** Files of the last minutes that are remembered as used. */
const MAX_USED = 256

/**
 * - `NotAnAnswer`: something else.
 * - `Sealed`: no live credential opens it: it was changed, or its file is expired, replaced or another server's.
 * - `Expired`, `NotYetValid`: by this host's clock.
 * - `Used`: it was taken before.
 * - `Forbidden`: it names an address that no device has.
 * - `Busy`: others are being punched for.
 */
export class AnswerError extends Data.TaggedError("AnswerError")<{
  readonly reason: "NotAnAnswer" | "Sealed" | "Expired" | "NotYetValid" | "Used" | "Forbidden" | "Busy"
  /** One line for people: what, where, what to do. */
  readonly message: string
}> {}

export interface Taken {
  /** The credential that it came with: 32 hexadecimal digits. */
  readonly credential: string
  /** Where datagrams go. */
  readonly candidates: ReadonlyArray<Address>
  /** Milliseconds for which they do. */
  readonly durationMs: number
}

export interface Answers {
  /** Verifies one, and sends; completes when the first datagrams have left. Each file is taken once. */
  readonly take: (line: string) => Effect.Effect<Taken, AnswerError>
}

export interface Options {
  readonly listener: Pick<Listener, "punch" | "hosts">
  /** The port that is served at present. */
  readonly port: Effect.Effect<Address>
  /** Whom to expect, now and after each change. */
  readonly admissions: Stream.Stream<ReadonlyArray<Admission>>
  /** Puts it on record. */
  readonly taken: (taken: Taken) => Effect.Effect<void>
}

const iso = (ms: number): string => new Date(ms).toISOString()

const refusals = {
  NotAnAnswer: "this is no answer file: give the line that the device has written, all of it",
  Sealed:
    "no credential of this server opens it: it was changed on its way, or its .sec file has expired or was another server's; pair anew with a fresh file",
  Used: "this answer was used already: let the device make a new one",
  Busy: `devices are being punched for at the moment: try again in ${(PUNCHES * PUNCH_INTERVAL_MS) / 1000} s`
} as const

const refuse = (reason: keyof typeof refusals): AnswerError => new AnswerError({ reason, message: refusals[reason] })

/** Punches in the scope. */
export const make = Effect.fn("Answers.make")(function* ({ admissions, listener, port, taken }: Options) {
  const { entropy, primitives } = yield* Crypto
  const running = yield* FiberSet.make()
  /** By nonce: when it may be forgotten, for it has expired by then. */
  const used = new Map<string, number>()
  let expected: ReadonlyArray<Admission> = []
  yield* Effect.forkScoped(
    Stream.runForEach(admissions, (all) =>
      Effect.sync(() => {
        expected = all
      })
    ),
    { startImmediately: true }
  )

  const once = (candidates: ReadonlyArray<Address>): Effect.Effect<void> =>
    Effect.forEach(candidates, (candidate) => listener.punch([candidate], entropy(PUNCH_LENGTH)), { discard: true })

  const verify = Effect.fnUntraced(function* (line: string, now: number) {
    const sealed = AnswerFile.parse(line)
    if (sealed === undefined) return yield* refuse("NotAnAnswer")
    const answer = AnswerFile.open(
      primitives,
      expected.filter(({ validUntil }) => now <= validUntil),
      sealed
    )
    if (answer === undefined) return yield* refuse("Sealed")
    const validity = AnswerFile.validity(answer, now)
    if (validity === "expired") {
      const message = `this answer expired at ${iso(answer.madeAt + AnswerFile.VALIDITY_MS)}: let the device make a new one; if it is fresh, set this machine's clock, or the device's`
      return yield* new AnswerError({ reason: "Expired", message })
    }
    if (validity === "notYetValid") {
      const message = `this answer is not valid before ${iso(answer.madeAt)}: set this machine's clock, or the device's`
      return yield* new AnswerError({ reason: "NotYetValid", message })
    }
    const own = yield* port
    const hosts = [own.host, ...(yield* listener.hosts)]
    const isOwn = ({ host, port }: Address): boolean => port === own.port && hosts.includes(host)
    const isLocal = AnswerFile.isLocal(hosts)
    const wrong = AnswerFile.forbidden(answer, isLocal) ?? answer.candidates.find(isOwn)
    if (wrong !== undefined) {
      const message = `this answer names ${format(wrong)}, where no device can be: it was not made by clawchat; nothing was sent`
      return yield* new AnswerError({ reason: "Forbidden", message })
    }
    return { answer, nonce: hex(sealed.nonce) }
  })

  const take: Answers["take"] = Effect.fnUntraced(function* (line) {
    const now = yield* Clock.currentTimeMillis
    const { answer, nonce } = yield* verify(line, now)
    for (const [known, until] of used) if (until < now) used.delete(known)
    if (used.has(nonce)) return yield* refuse("Used")
    if (used.size >= MAX_USED || (yield* FiberSet.size(running)) >= MAX_AT_ONCE) return yield* refuse("Busy")
    used.set(nonce, answer.madeAt + AnswerFile.VALIDITY_MS + AnswerFile.CLOCK_SKEW_MS)
    const candidates = answer.candidates.filter((one, i, all) => all.findIndex((other) => equals(one, other)) === i)
    const done = { credential: hex(answer.credentialId), candidates, durationMs: PUNCHES * PUNCH_INTERVAL_MS }
    yield* taken(done)
    yield* once(candidates)
    const again = Effect.andThen(Effect.sleep(PUNCH_INTERVAL_MS), once(candidates))
    yield* FiberSet.run(running, Effect.repeat(again, { times: PUNCHES - 2 }))
    return done
  })

  const answers: Answers = { take }
  return answers
})
