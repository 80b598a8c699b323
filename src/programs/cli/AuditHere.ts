/** Puts on record what a command changes on a home whose server does not run: the caller holds the home's lock. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as AuditEvent from "../../domain/AuditEvent.ts"
import * as HomePaths from "../../domain/HomePaths.ts"
import * as AuditNode from "../../layers/AuditNode.ts"
import { Audit, stamp } from "../../services/Audit.ts"

export const note = (home: string, event: AuditEvent.Event): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Audit.use(({ append }) => append({ at: stamp(now), ...event }))
  ).pipe(Effect.provide(AuditNode.layer(HomePaths.server(home).audit)))
