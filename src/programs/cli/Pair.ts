/** `clawchat pair FILE`: this device becomes one of the server's; the file is used up by it. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as AnswerFile from "../../domain/AnswerFile.ts"
import * as HomePaths from "../../domain/HomePaths.ts"
import { format } from "../../domain/protocol/Address.ts"
import type { Values } from "../../domain/Settings.ts"
import * as ClientIdentity from "../ClientIdentity.ts"
import * as ClientLink from "../ClientLink.ts"
import * as CredentialFiles from "../CredentialFiles.ts"
import * as Answer from "./Answer.ts"
import * as Common from "./Common.ts"
import { failed, unreachable } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import * as Sec from "./Sec.ts"
import * as WaysTried from "./WaysTried.ts"

export interface Input extends Common.Globals {
  readonly file: string
  readonly keyFile: Option.Option<string>
  readonly name: Option.Option<string>
  readonly answer: Option.Option<string>
  readonly json: boolean
  readonly timeout: number
}

/** The pairing that a `.sec` file offers, after every check. */
export const open = Effect.fnUntraced(function* (values: Values, file: string, keyFile: Option.Option<string>) {
  const key = yield* Common.bootstrapKey(values, keyFile)
  const from = Sec.source(file)
  const content = yield* Effect.mapError(
    "path" in from ? CredentialFiles.load(from.path, key) : CredentialFiles.openValid(from.bytes, key, from.where),
    Sec.fileFailure
  )
  return ClientIdentity.pairingOf(content)
})

export interface More {
  /** Writes an answer file there while the server does not answer. */
  readonly answer?: string
  /** Where the file came from, for what to do next. */
  readonly file?: string
}

/** Milliseconds of silence after which another attempt is worth more than waiting. */
const SILENCE_MS = 4000

/**
 * Comes in with a file, in the scope; when it returns the device is enrolled. A server that answered and fell silent was
 * started anew, or took another device on with this file: the next attempt tells.
 */
const enrol = Effect.fnUntraced(function* (
  values: Values,
  identity: ClientIdentity.ClientIdentity,
  pairing: ClientIdentity.Pairing,
  timeoutMs: number,
  { answer, file }: More = {}
) {
  const start = yield* Clock.currentTimeMillis
  const ways = yield* WaysTried.make()
  let isHard = false
  const noAnswer = Effect.flatMap(ways.summary, (tried) => {
    const where = `${pairing.serverName} at ${pairing.endpoints.map(format).join(", ")} does not answer${tried}`
    const used = "or this file was used or replaced already"
    if (answer !== undefined) {
      const hard = isHard ? `${Answer.HARD}; else ` : ""
      return unreachable(
        `${where}: ${hard}the answer file was not taken by the server in time (clawchat sec answer), ${used}`
      )
    }
    const next = file === undefined || file === "-" ? "" : `. If it is behind a NAT: clawchat pair ${file} --answer OUT`
    return unreachable(`${where}: it is down or out of reach, ${used}${next}`)
  })
  const write = answer === undefined ? undefined : yield* Answer.writer(answer)
  const attempt = Effect.flatMap(Clock.currentTimeMillis, (now) =>
    ClientLink.connect({
      identity,
      pairing,
      deviceName: Common.deviceName(values),
      patience: { ...ClientLink.patience(values.networking), deadAfterMs: SILENCE_MS },
      timeoutMs: Math.max(1, start + timeoutMs - now),
      progress: ways.progress,
      ...(write === undefined
        ? {}
        : {
            answer: {
              stun: values.networking.stun,
              write: (sheet) => {
                isHard = sheet.outside === "dependent"
                return write(sheet)
              }
            }
          })
    })
  )
  const enrolled = attempt.pipe(
    Effect.retry({ while: (error) => error._tag === "TransportError" && error.reason === "Silent" }),
    Effect.catch((error) =>
      error._tag === "TransportError" && error.reason === "NoAnswer"
        ? noAnswer
        : Effect.fail(Common.connectFailure(error))
    ),
    Effect.timeoutOrElse({ duration: timeoutMs + SILENCE_MS, orElse: () => noAnswer })
  )
  return yield* Effect.raceFirst(enrolled, ways.show)
})

/** The identity of this client's home, made where there is none. */
export const identity = (values: Values) =>
  Effect.mapError(ClientIdentity.make(HomePaths.client(values.home)), ({ message }) => failed(message))

/** The identity of this client's home, once the file has been used for it. */
export const paired = Effect.fnUntraced(function* (
  values: Values,
  file: string,
  keyFile: Option.Option<string>,
  timeoutMs: number
) {
  const pairing = yield* open(values, file, keyFile)
  const known = yield* identity(values)
  yield* Effect.scoped(enrol(values, known, pairing, timeoutMs, { file }))
  return known
})

export const run = Effect.fnUntraced(
  function* (input: Input) {
    const flags = { ...Common.globalFlags(input), name: Option.getOrUndefined(input.name) }
    const values = yield* Common.settings("client", flags)
    const pairing = yield* open(values, input.file, input.keyFile)
    const known = yield* identity(values)
    const start = yield* Clock.currentTimeMillis
    const answer = Option.getOrUndefined(input.answer)
    // Somebody has to walk.
    const timeoutMs = answer === undefined ? input.timeout : AnswerFile.VALIDITY_MS
    const { connection } = yield* enrol(values, known, pairing, timeoutMs, {
      file: input.file,
      ...(answer === undefined ? {} : { answer })
    })
    const ms = (yield* Clock.currentTimeMillis) - start
    const remote = format(yield* connection.remote)
    if (input.json) {
      return yield* Output.json({ server: pairing.serverName, device: connection.credential, remote, ms })
    }
    yield* Output.line(`Paired with ${pairing.serverName} at ${remote} in ${ms} ms`)
    yield* Output.note("The file is used up; from now on this device connects without one: clawchat chat")
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)
