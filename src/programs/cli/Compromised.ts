/**
 * `clawchat compromised`: burns all keys. On a server's home everything of the server, running or not; on a client's home
 * the device's, and the server is told. Nothing happens before somebody has typed YES, or given `--yes`.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as HomePaths from "../../domain/HomePaths.ts"
import type { Values } from "../../domain/Settings.ts"
import * as ScreenNode from "../../layers/ScreenNode.ts"
import { Screen } from "../../services/Screen.ts"
import { SecureFileStore } from "../../services/SecureFileStore.ts"
import * as Burn from "../Burn.ts"
import * as ClientCompromise from "../ClientCompromise.ts"
import * as ClientIdentity from "../ClientIdentity.ts"
import * as ClientLink from "../ClientLink.ts"
import * as Compromise from "../Compromise.ts"
import * as ServerCompromise from "../ServerCompromise.ts"
import * as AuditHere from "./AuditHere.ts"
import * as Common from "./Common.ts"
import * as Credentials from "./Credentials.ts"
import { denied, failed, unreachable } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import * as Tier from "./Tier.ts"

export interface Input extends Common.Globals {
  readonly yes: boolean
  readonly json: boolean
}

/** Milliseconds in which a fresh server is to be there, and between two looks. */
const FRESH_MS = 10_000
const LOOK_MS = 100

const NOTHING = "Nothing was done: the answer was not YES"

/** Passes only when YES was given, one way or the other. */
const confirmed = Effect.fnUntraced(function* (yes: boolean, what: string) {
  if (yes) return
  const answer = yield* Effect.gen(function* () {
    const screen = yield* Screen
    yield* screen.note(`${what}\nIt cannot be undone. Type YES to do it; anything else does nothing.`)
    yield* screen.prompt("> ")
    const input = yield* Effect.option(screen.input)
    yield* screen.prompt(undefined)
    return Option.isSome(input) && input.value._tag === "Line" ? input.value.text.trim() : ""
  }).pipe(Effect.provide(ScreenNode.layer({ historyPath: undefined })))
  if (answer !== "YES") return yield* failed(NOTHING)
})

const say = Effect.fnUntraced(function* (input: Input, lines: ReadonlyArray<string>, facts: object) {
  if (input.json) yield* Output.json(facts)
  for (const line of lines) yield* input.json ? Output.note(line) : Output.line(line)
})

// -- a device ----------------------------------------------------------------------------------------------------------

const burnClient = Effect.fnUntraced(function* (input: Input, values: Values) {
  const paths = HomePaths.client(values.home)
  const store = yield* SecureFileStore
  const plan = Burn.client(paths)
  const cutShort = yield* Effect.orElseSucceed(Burn.stands(plan), () => false)
  const isPaired = yield* Effect.orElseSucceed(ClientIdentity.isPaired(paths), () => true)
  const hasKey = yield* Effect.match(store.read(paths.staticKey), {
    onFailure: () => true,
    onSuccess: Option.isSome
  })
  if (!isPaired && !hasKey && !cutShort)
    return yield* denied("There is nothing to burn: this home is not paired with a server")
  yield* confirmed(
    input.yes,
    "This burns all keys of this device; if it is the owner's, also those of the server and every other device."
  )
  const identity = yield* Effect.result(ClientIdentity.make(paths))
  if (Result.isFailure(identity)) {
    // Nobody can be told with what cannot be read.
    const outcome = yield* Compromise.carryOut({
      plan,
      about: { cause: "here" },
      seal: Effect.succeed([]),
      wipe: Effect.void,
      answers: false
    })
    if (outcome.left.length === 0) yield* Effect.ignore(Burn.lift(plan))
    return yield* say(input, ClientCompromise.report(outcome, undefined), {
      burnt: outcome.left.length === 0,
      acknowledged: false,
      left: outcome.left
    })
  }
  const status = yield* Effect.orElseSucceed(identity.success.status, () => undefined)
  const server = status === undefined || status._tag === "Unpaired" ? undefined : status.server
  const outcome = yield* Effect.uninterruptible(
    ClientCompromise.burn({
      identity: identity.success,
      deviceName: Common.deviceName(values),
      patience: ClientLink.patience(values.networking)
    })
  )
  yield* say(input, ClientCompromise.report(outcome, server), {
    burnt: outcome.left.length === 0,
    acknowledged: outcome.notified > 0 && outcome.acknowledged,
    left: outcome.left
  })
  if (outcome.left.length > 0) return yield* failed("Some files could not be deleted: remove them by hand")
})

// -- a server's home ---------------------------------------------------------------------------------------------------

const EVERYTHING =
  "This burns all keys of this server: every device is out, every credential file void, and a new server takes its place."

const next = (credential: string): string =>
  `Next step: carry the new ${credential} to each device by hand (scp), then there: clawchat pair FILE`

const burnRunning = Effect.fnUntraced(function* (input: Input, values: Values, control: Tier.Control) {
  yield* confirmed(input.yes, EVERYTHING)
  const store = yield* SecureFileStore
  const plan = Credentials.burns(values)
  const { credential } = HomePaths.credentials(values.security.directory)
  const { pid } = yield* Effect.mapError(control["Control.Status"](undefined), Tier.controlFailure)
  const start = yield* Clock.currentTimeMillis
  const asked = yield* Effect.result(control["Control.Compromised"](undefined))
  // A server that is gone before its answer has left was asked all the same.
  if (Result.isFailure(asked) && asked.failure._tag === "ControlError") return yield* Tier.controlFailure(asked.failure)
  const fresh = Effect.gen(function* () {
    if (yield* Burn.stands(plan)) return undefined
    const file = yield* store.read(credential)
    const running = yield* Effect.scoped(
      Effect.gen(function* () {
        const found = yield* Tier.localServer(values.home)
        return found === undefined ? undefined : yield* found["Control.Status"](undefined)
      })
    )
    return Option.isSome(file) && running !== undefined && running.pid !== pid ? running : undefined
  }).pipe(Effect.orElseSucceed(() => undefined))
  const look: Effect.Effect<Effect.Success<typeof fresh>, never, Effect.Services<typeof fresh>> = Effect.gen(
    function* () {
      const found = yield* fresh
      if (found !== undefined || (yield* Clock.currentTimeMillis) - start > FRESH_MS) return found
      yield* Effect.sleep(LOOK_MS)
      return yield* look
    }
  )
  const running = yield* look
  if (running === undefined) {
    return yield* unreachable(
      `The old server is burnt, and no fresh one has come up within ${FRESH_MS / 1000} s: start it (clawchat server) and see its log`
    )
  }
  yield* say(
    input,
    [
      `COMPROMISED: all keys of the server were burnt; process ${pid} is gone and ${running.pid} took its place at ${running.address}.`,
      next(credential)
    ],
    { burnt: true, pid: running.pid, address: running.address, credential }
  )
})

const burnIdle = Effect.fnUntraced(
  function* (input: Input, values: Values) {
    const paths = HomePaths.server(values.home)
    const plan = Credentials.burns(values)
    yield* confirmed(input.yes, EVERYTHING)
    yield* Common.lock(paths.lock, "A server", plan)
    yield* Effect.uninterruptible(
      Effect.gen(function* () {
        // One that was cut short knows better which llm tier there was.
        if (!(yield* Burn.stands(plan))) {
          yield* Burn.begin(plan, ServerCompromise.about("here", yield* ServerCompromise.llmKeyOf(paths)))
        }
        yield* ServerCompromise.prepare(plan, paths, HomePaths.llm(values.home))
        yield* AuditHere.note(values.home, { kind: "compromised", alert: true, scope: "all", by: "home" })
      })
    )
    // `clawchat up` keeps a client's home beside the server's; nobody tells that one.
    const beside = HomePaths.client(HomePaths.clientBeside(values.home))
    const store = yield* SecureFileStore
    if (Option.isSome(yield* store.read(beside.staticKey))) {
      const mine = Burn.client(beside)
      yield* Burn.begin(mine, { cause: "here" })
      yield* Burn.finish(mine, () => Effect.void)
    }
    const { credential } = HomePaths.credentials(values.security.directory)
    yield* say(
      input,
      [
        "COMPROMISED: all keys of this server are burnt; every device is out. Those that are away learn it when they are not answered any more.",
        "Start the server: it makes itself a new identity and writes a new credential file.",
        next(credential)
      ],
      { burnt: true, credential }
    )
  },
  Effect.catchTags({
    SecureFileError: (error) => Effect.fail(failed(error.message)),
    BurnError: (error) => Effect.fail(failed(error.message))
  })
)

export const run = Effect.fnUntraced(
  function* (input: Input) {
    const client = yield* Common.settings("client", Common.globalFlags(input))
    // A burning that was cut short may have taken away what a server's home is known by.
    const { tombstone } = HomePaths.server(client.home)
    const isBegun = yield* Effect.orElseSucceed(Burn.stands({ tombstone, tier: "server" }), () => false)
    if (!Tier.isServerHome(client.home) && !isBegun) return yield* burnClient(input, client)
    const values = yield* Common.settings("server", Common.globalFlags(input))
    const running = yield* Tier.localServer(values.home)
    return yield* running === undefined ? burnIdle(input, values) : burnRunning(input, values, running)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)
