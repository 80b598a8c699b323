/**
 * `clawchat up`: llm tier and server as processes of their own, real UDP on loopback between all three, a freshly written
 * credential file, then a chat. A second `up` on the same home joins the first.
 */
import { chmodSync } from "node:fs"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as HomePaths from "../../domain/HomePaths.ts"
import { type Address, format } from "../../domain/protocol/Address.ts"
import { secretVariables, type Values } from "../../domain/Settings.ts"
import * as Folders from "../../layers/Folders.ts"
import * as TierProcess from "../../layers/TierProcess.ts"
import { UdpSocket } from "../../services/UdpSocket.ts"
import * as BootstrapKey from "../BootstrapKey.ts"
import * as ClientIdentity from "../ClientIdentity.ts"
import * as CredentialFiles from "../CredentialFiles.ts"
import * as Chat from "./Chat.ts"
import * as Common from "./Common.ts"
import { ExitCode, Failure, failed } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import * as Sec from "./Sec.ts"
import * as Tier from "./Tier.ts"

export interface Input extends Common.Globals {
  readonly conversation: string
  readonly provider: Option.Option<string>
}

const LOOPBACK = "127.0.0.1"
/** Milliseconds for both tiers to come up and find each other, and between two looks for a server that is to come. */
const START_MS = 60_000
const LOOK_MS = 100

/** The configured port of the llm tier, or any other one where that is taken. */
const freePort = Effect.fnUntraced(function* (wanted: number) {
  const sockets = yield* UdpSocket
  const bind = (port: number) =>
    Effect.scoped(Effect.map(sockets.bind({ host: LOOPBACK, port }), ({ address }) => address.port))
  return yield* Effect.mapError(
    Effect.catch(bind(wanted), () => bind(0)),
    ({ message }) => failed(message)
  )
})

/** How many ports the llm tier is offered. */
const PORT_TRIES = 5

const BOOTSTRAP_KEY = "CLAWCHAT_BOOTSTRAP_KEY"

/** A tier that would not start has said why, and its exit code of which kind that is. */
const tierFailure = ({ code, message }: TierProcess.TierProcessError): Failure =>
  new Failure({ code: Object.values(ExitCode).find((known) => known === code) || ExitCode.Failed, message })

/** A tier that is started anew, for as long as somebody waits for its end, when it has burnt its keys (COMPROMISED). */
const kept = Effect.fnUntraced(function* (options: TierProcess.Options) {
  const scope = yield* Effect.scope
  const first = yield* TierProcess.start(options)
  const lasting = (tier: TierProcess.TierProcess): TierProcess.TierProcess["ended"] =>
    Effect.catchIf(
      tier.ended,
      ({ code }) => code === ExitCode.Burned,
      () => Effect.flatMap(Scope.provide(TierProcess.start(options), scope), lasting)
    )
  return { line: first.line, ended: lasting(first) } satisfies TierProcess.TierProcess
})

/** Both tiers, with the llm tier on this port, until the scope closes; answers when they have found each other. */
const startTiersOn = Effect.fnUntraced(function* (port: number, values: Values, input: Input) {
  const entry = process.argv[1]
  if (entry === undefined) return yield* failed("This process does not know its own program file")
  const shared = [
    `--home=${values.home}`,
    ...Option.match(input.config, { onNone: () => [], onSome: (file) => [`--config=${file}`] })
  ]
  const provider = Option.match(input.provider, { onNone: () => [], onSome: (name) => [`--provider=${name}`] })
  const ports = { CLAWCHAT_LLM_HOST: LOOPBACK, CLAWCHAT_LLM_PORT: String(port) }
  const llm = yield* kept({
    entry,
    args: ["llm", ...shared, ...provider],
    environment: ports,
    withhold: [BOOTSTRAP_KEY]
  })
  const server = yield* kept({
    entry,
    args: ["server", ...shared, `--bind=${LOOPBACK}`, `--ip=${LOOPBACK}`],
    environment: ports,
    withhold: secretVariables.filter((name) => name !== BOOTSTRAP_KEY)
  })
  yield* Effect.all([llm.line("Listening on UDP"), server.line("LLM connection established")], { concurrency: 2 }).pipe(
    Effect.timeoutOrElse({
      duration: START_MS,
      orElse: () => failed("The tiers did not find each other in time: see the logs below the home")
    })
  )
  return { ended: Effect.mapError(Effect.raceFirst(llm.ended, server.ended), tierFailure) }
})

/** Both tiers, until the scope closes. Somebody may take the port before the llm tier does: then it gets another one. */
const startTiers = Effect.fnUntraced(function* (values: Values, input: Input) {
  const scope = yield* Effect.scope
  type Started = Effect.Success<ReturnType<typeof startTiersOn>>
  type Start = Effect.Effect<Started, Failure | TierProcess.TierProcessError, Scope.Scope | UdpSocket>
  const start = (wanted: number, tries: number): Start =>
    Effect.gen(function* () {
      const port = yield* freePort(wanted)
      const attempt = yield* Scope.fork(scope)
      return yield* Scope.provide(startTiersOn(port, values, input), attempt).pipe(
        Effect.onError((cause) => Scope.close(attempt, Exit.failCause(cause))),
        Effect.catchIf(
          // A tier whose last word names the address that it was to have did not get it.
          (error) => tries > 1 && error.message.includes(format({ host: LOOPBACK, port })),
          () => start(0, tries - 1)
        )
      )
    })
  return yield* Effect.catchTag(start(values.llm.port, PORT_TRIES), "TierProcessError", (error) =>
    Effect.fail(tierFailure(error))
  )
})

const addressOf = (text: string): Address | undefined => {
  const at = text.lastIndexOf(":")
  const port = Number(text.slice(at + 1))
  return at > 0 && Number.isInteger(port) ? { host: LOOPBACK, port } : undefined
}

export const run = Effect.fnUntraced(
  function* (input: Input) {
    const values = yield* Common.settings("server", {
      ...Common.globalFlags(input),
      provider: Option.getOrUndefined(input.provider)
    })
    yield* Effect.try({
      try: () => {
        Folders.make(values.home)
        chmodSync(values.home, 0o700)
      },
      catch: (cause) => {
        const code = cause instanceof Error && "code" in cause ? cause.code : "unknown"
        return failed(`${values.home}: no folder can be made here (${code})`)
      }
    })
    const running = yield* Tier.localServer(values.home)
    const tiers = running === undefined ? yield* startTiers(values, input) : { ended: Effect.never }
    return yield* Effect.raceFirst(talk(values, input, running), tiers.ended).pipe(
      Effect.provide(Chat.screen(HomePaths.clientBeside(values.home)))
    )
  },
  Effect.scoped,
  Effect.provide(Layers.networkLate)
)

/** Chats until the user leaves; when the server's keys are burnt meanwhile, pairs with the fresh one and goes on. */
const talk = Effect.fnUntraced(function* (values: Values, input: Input, running: Tier.Control | undefined) {
  const clientHome = HomePaths.clientBeside(values.home)
  let control = running ?? (yield* Tier.localServer(values.home))
  let pid: number | undefined
  while (true) {
    if (control === undefined)
      return yield* failed(`The server of ${values.home} does not answer on its control socket`)
    const status = yield* Effect.mapError(control["Control.Status"](undefined), Tier.controlFailure)
    pid = status.pid
    const address = addressOf(status.address)
    const identity = yield* Effect.mapError(ClientIdentity.make(HomePaths.client(clientHome)), ({ message }) =>
      failed(message)
    )
    const known = yield* Effect.mapError(identity.status, ({ message }) => failed(message))
    const devices = yield* Effect.mapError(control["Control.Devices"](undefined), Tier.controlFailure)
    const isEnrolled =
      known._tag === "Enrolled" &&
      devices.some(({ id, revokedAt }) => id === ClientIdentity.deviceIdOf(known.server) && revokedAt === undefined)
    if (address !== undefined) yield* identity.remember({ address })
    const pairing = isEnrolled ? undefined : yield* freshPairing(values, HomePaths.server(values.home), control)
    const end = yield* Chat.converse({
      values,
      home: clientHome,
      keep: false,
      identity,
      pairing,
      conversation: input.conversation,
      timeoutMs: START_MS,
      next: `Next step: start clawchat up again, it pairs this device anew; all others need ${HomePaths.credentials(values.security.directory).credential}`
    })
    if (end === "left") return
    yield* Output.note("COMPROMISED: all keys were burnt; waiting for the fresh server")
    control = yield* freshServer(values.home, pid)
  }
})

/** The server that comes after the one with this process id, if it comes. */
const freshServer = (home: string, before: number) => {
  const look = Effect.gen(function* () {
    yield* Effect.sleep(LOOK_MS)
    const found = yield* Tier.localServer(home)
    if (found === undefined) return undefined
    const { pid } = yield* found["Control.Status"](undefined)
    return pid === before ? undefined : found
  }).pipe(Effect.orElseSucceed(() => undefined))
  return look.pipe(
    Effect.repeat({ while: (found) => found === undefined }),
    Effect.timeout(START_MS),
    Effect.orElseSucceed(() => undefined)
  )
}

/** A new credential file, as a person would carry it from the server to the client, and what it offers. */
const freshPairing = Effect.fnUntraced(function* (values: Values, paths: HomePaths.ServerPaths, control: Tier.Control) {
  const issued = yield* Effect.mapError(control["Control.NewCredential"](undefined), Tier.controlFailure)
  const key = yield* Effect.mapError(
    BootstrapKey.loadOrCreate({
      configured: Option.fromUndefinedOr(values.security.bootstrapKey),
      path: paths.bootstrapKey
    }),
    ({ message }) => failed(message)
  )
  const content = yield* Effect.mapError(CredentialFiles.load(issued.path, key), Sec.fileFailure)
  return ClientIdentity.pairingOf(content)
})
