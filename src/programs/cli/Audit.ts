/**
 * `clawchat audit`: what happened. On a server's home the file is read, whether or not a server runs; elsewhere the server is
 * asked, which tells its owner's device.
 */
import { existsSync } from "node:fs"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as AuditEvent from "../../domain/AuditEvent.ts"
import { MAX_AUDIT_RECORDS } from "../../domain/ControlRpc.ts"
import * as HomePaths from "../../domain/HomePaths.ts"
import * as Printable from "../../domain/Printable.ts"
import * as Kinds from "../../domain/SettingKinds.ts"
import type { Values } from "../../domain/Settings.ts"
import * as AuditNode from "../../layers/AuditNode.ts"
import { Audit, type AuditError } from "../../services/Audit.ts"
import * as Common from "./Common.ts"
import { denied, type Failure, failed, usage } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import * as Tier from "./Tier.ts"

export interface Input extends Common.Globals {
  readonly since: Option.Option<string>
  readonly kind: ReadonlyArray<string>
  readonly limit: number
  readonly json: boolean
  readonly timeout: number
}

const DAY_MS = 86_400_000
const age = Kinds.duration(0, 3650 * DAY_MS)
/** A date, or a date and a time; without an offset in UTC. */
const INSTANT = /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?(?:Z|[+-]\d\d:\d\d)?)?$/

/** The time that `--since` names, ms: so long ago, or an instant. */
export const sinceOf = (text: string, now: number): Result.Result<number, string> => {
  if (INSTANT.test(text)) {
    const iso = text.replace(" ", "T")
    const at = Date.parse(/T/.test(iso) && !/(?:Z|[+-]\d\d:\d\d)$/.test(iso) ? `${iso}Z` : iso)
    if (!Number.isNaN(at)) return Result.succeed(at)
  }
  const ago = age.decode(text, { home: "/", resolve: (path) => path })
  return Result.isSuccess(ago)
    ? Result.succeed(now - ago.success)
    : Result.fail(`--since: expected a duration such as "2 hours", or a time such as 2026-03-01T12:00, got "${text}"`)
}

/** What a `--kind` names: one, or with the part before the dot all that begin with it. */
export const kindsOf = (wanted: ReadonlyArray<string>): Result.Result<ReadonlyArray<AuditEvent.Kind>, string> => {
  const found = new Set<AuditEvent.Kind>()
  for (const word of wanted) {
    const those = AuditEvent.KINDS.filter((kind) => kind === word || kind.startsWith(`${word}.`))
    if (those.length === 0) {
      return Result.fail(`--kind: there is no "${word}"; there are ${AuditEvent.KINDS.join(", ")}`)
    }
    for (const kind of those) found.add(kind)
  }
  return Result.succeed([...found])
}

interface Query {
  readonly since: number | undefined
  readonly kinds: ReadonlyArray<AuditEvent.Kind> | undefined
  readonly limit: number
}

const failure = ({ message, reason }: AuditError): Failure => (reason === "Denied" ? denied(message) : failed(message))

const fromFile = (values: Values, { kinds, limit, since }: Query) =>
  Audit.use((audit) => audit.read({ sinceMs: since, kinds, limit })).pipe(
    Effect.mapError(failure),
    Effect.provide(AuditNode.layer(HomePaths.server(values.home).audit))
  )

const fromServer = Effect.fnUntraced(function* (values: Values, { kinds, limit, since }: Query, timeoutMs: number) {
  const control = yield* Tier.control(values, timeoutMs)
  const query = {
    limit,
    ...(since === undefined ? {} : { since }),
    ...(kinds === undefined ? {} : { kinds })
  }
  return yield* Effect.mapError(Stream.runCollect(control["Control.Audit"](query)), Tier.controlFailure)
})

const checked = <A>(result: Result.Result<A, string>): Effect.Effect<A, Failure> =>
  Effect.mapError(Effect.fromResult(result), usage)

export const run = Effect.fnUntraced(
  function* (input: Input) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    if (input.limit < 1 || input.limit > MAX_AUDIT_RECORDS) {
      return yield* usage(`--limit: expected 1 to ${MAX_AUDIT_RECORDS}, got ${input.limit}`)
    }
    const now = yield* Clock.currentTimeMillis
    const since = Option.getOrUndefined(input.since)
    const query: Query = {
      since: since === undefined ? undefined : yield* checked(sinceOf(since, now)),
      kinds: input.kind.length === 0 ? undefined : yield* checked(kindsOf(input.kind)),
      limit: input.limit
    }
    // One whose keys were burnt and that has not been started since keeps its record.
    const isHere = Tier.isServerHome(values.home) || existsSync(HomePaths.server(values.home).audit)
    const records = yield* isHere ? fromFile(values, query) : fromServer(values, query, input.timeout)
    const lines = records.map((record) =>
      input.json
        ? Printable.json(record)
        : `${record.at} ${record.alert === true ? "! " : "  "}${AuditEvent.text(record)}`
    )
    if (lines.length > 0) yield* Output.line(lines.join("\n"))
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)
