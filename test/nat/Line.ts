/**
 * A device's line, kept up, and what becomes of it: `node Line.ts HOME`. Prints one JSON value per change (`Said`): when the
 * server first answered, and every way that the session takes from then on. Ends with its standard input.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { format } from "../../src/domain/protocol/Address.ts"
import type { PathView } from "../../src/domain/protocol/SessionTypes.ts"
import * as ClientLink from "../../src/programs/ClientLink.ts"
import * as Common from "../../src/programs/cli/Common.ts"
import * as Layers from "../../src/programs/cli/Layers.ts"
import * as Tier from "../../src/programs/cli/Tier.ts"

export interface Said {
  /** Milliseconds since the line was asked for. */
  readonly ms: number
  readonly address: string
  readonly relayed: boolean
  readonly rttMs: number
}

const TIMEOUT_MS = 20_000
/** Between two looks at the session's paths. */
const LOOK = "10 millis"

const follow = Effect.fnUntraced(function* (session: ClientLink.Session, start: number) {
  yield* session.server["Control.Echo"]({ data: "" })
  let last = ""
  while (true) {
    const active = (yield* session.connection.paths).find((path: PathView) => path.state === "active")
    const name = active === undefined ? "" : `${format(active.remote)} ${active.relayed}`
    if (active !== undefined && name !== last) {
      last = name
      const ms = Math.round(performance.now() - start)
      const said: Said = { ms, address: format(active.remote), relayed: active.relayed, rttMs: active.rttMs }
      process.stdout.write(`${JSON.stringify(said)}\n`)
    }
    yield* Effect.sleep(LOOK)
  }
})

const line = Effect.gen(function* () {
  const home = process.argv[2]
  const values = yield* Common.settings(
    "client",
    Common.globalFlags({ home: Option.fromUndefinedOr(home), config: Option.none() })
  )
  const identity = yield* Tier.identity(values)
  const start = performance.now()
  const link = yield* ClientLink.make({
    identity,
    pairing: undefined,
    deviceName: Common.deviceName(values),
    patience: ClientLink.patience(values.networking),
    timeoutMs: TIMEOUT_MS
  })
  yield* Stream.runForEach(
    Stream.switchMap(link.changes, (state) =>
      state._tag === "Connected" ? Stream.fromEffect(Effect.ignore(follow(state.session, start))) : Stream.empty
    ),
    () => Effect.void
  )
})

const ended = Effect.callback<void>((resume) => {
  process.stdin.resume().once("end", () => resume(Effect.void))
})

await Effect.runPromise(Effect.provide(Effect.scoped(Effect.raceFirst(line, ended)), Layers.network))
