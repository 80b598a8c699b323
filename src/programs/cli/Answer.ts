/** Answer files at both ends: written by `clawchat pair --answer`, taken by `clawchat sec answer`. */
import { existsSync, readFileSync, statSync } from "node:fs"
import { resolve } from "node:path"
import * as Effect from "effect/Effect"
import * as AnswerFile from "../../domain/AnswerFile.ts"
import { format } from "../../domain/protocol/Address.ts"
import { utf8 } from "../../domain/protocol/Cursor.ts"
import { SecureFileStore } from "../../services/SecureFileStore.ts"
import { TransportError } from "../../services/Transport.ts"
import type { Sheet } from "../AnswerOffer.ts"
import * as Common from "./Common.ts"
import { denied, notFound, unreachable, usage } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import * as Tier from "./Tier.ts"

export interface Input extends Common.Globals {
  readonly file: string
  readonly json: boolean
}

/** The one line, from a file or standard input. */
const read = (file: string) =>
  Effect.suspend(() => {
    if (file === "-") return Effect.succeed(readFileSync(0, "utf8"))
    const path = resolve(file)
    const stat = existsSync(path) ? statSync(path) : undefined
    if (stat === undefined) return Effect.fail(notFound(`${path} does not exist: give the answer file of the device`))
    if (!stat.isFile() || stat.size > AnswerFile.MAX_LENGTH) {
      return Effect.fail(denied(`${path} is no answer file: give the one that the device has written`))
    }
    return Effect.succeed(readFileSync(path, "utf8"))
  })

const isAnswer = (path: string): boolean => AnswerFile.parse(readFileSync(path, "utf8")) !== undefined

/** `clawchat sec answer FILE`, on the server's home. */
export const take = Effect.fnUntraced(
  function* (input: Input) {
    const values = yield* Common.settings("server", Common.globalFlags(input))
    const line = yield* read(input.file)
    if (AnswerFile.parse(line) === undefined) {
      return yield* denied("This is no answer file: give the one that the device has written, all of it")
    }
    const server = yield* Tier.localServer(values.home)
    if (server === undefined) {
      return yield* unreachable(
        `No server runs on ${values.home}: an answer file is for a running one, on the server's own machine`
      )
    }
    const punched = yield* Effect.mapError(server["Control.Answer"]({ line: line.trim() }), Tier.controlFailure)
    if (input.json) return yield* Output.json(punched)
    yield* Output.line(`Opening the way for ${punched.candidates.join(", ")}`)
    yield* Output.note(`For ${punched.durationMs / 1000} s; the device connects by itself`)
  },
  Effect.scoped,
  Effect.provide(Layers.base)
)

/** How a device's answer file comes to be: what `ClientLink` writes it with. `note` prints a line. */
export const writer = Effect.fnUntraced(function* (
  file: string,
  note: (line: string) => Effect.Effect<void> = Output.note
) {
  const store = yield* SecureFileStore
  const path = resolve(file)
  const stat = existsSync(path) ? statSync(path) : undefined
  const isOurs = stat?.isFile() === true && stat.size <= AnswerFile.MAX_LENGTH && isAnswer(path)
  if (stat !== undefined && !isOurs) {
    return yield* usage(`--answer: ${path} is there and no answer file: give the name of a new file`)
  }
  return Effect.fnUntraced(function* ({ candidates, isAnew, line, outside }: Sheet) {
    yield* Effect.mapError(
      store.write(path, utf8(`${line}\n`)),
      ({ message }) => new TransportError({ reason: "Keep", message })
    )
    if (isAnew) yield* note("This device's address has changed: an answer file from before is worth nothing")
    const minutes = AnswerFile.VALIDITY_MS / 60_000
    yield* note(`Answer file: ${path} (${candidates.map(format).join(", ")}), good for ${minutes} minutes`)
    yield* note("Carry it to the server, and there: clawchat sec answer FILE. This command waits meanwhile")
    if (outside === "dependent") yield* note(`warning: ${HARD}`)
    if (outside === "unknown") {
      yield* note(
        "warning: no STUN server has told this device's address on the internet: name one in networking.stun unless both are on one network"
      )
    }
  })
})

/** Why it most likely will not work. */
export const HARD =
  "the NAT before this device gives every destination another port (symmetric), so an answer file rarely helps: let the server have a rendezvous or a TURN server"
