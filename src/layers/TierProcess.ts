/**
 * A tier in a process of its own, for `clawchat up`. It lives and dies with us: when our end of its IPC channel closes, also
 * because we were killed, it ends itself.
 */
import { type ChildProcess, fork } from "node:child_process"
import { createInterface } from "node:readline"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"

/** Milliseconds that a tier may take to end before it is killed. */
const GRACE_MS = 5000
/** Begins the line in which a tier says why it gave up. */
const LAST_WORD = "clawchat: "

export class TierProcessError extends Data.TaggedError("TierProcessError")<{
  /** One line for people. */
  readonly message: string
  /** The tier's exit code; `undefined` when it never started or a signal ended it. */
  readonly code: number | undefined
}> {}

export interface TierProcess {
  /** Waits for a line of stdout that begins with `prefix`, and gives its rest. Fails when the tier ends before. */
  readonly line: (prefix: string) => Effect.Effect<string, TierProcessError>
  /** Fails when the tier ends. */
  readonly ended: Effect.Effect<never, TierProcessError>
}

export interface Options {
  /** The program's entry, as this process was started. */
  readonly entry: string
  readonly args: ReadonlyArray<string>
  /** Added to our own environment. */
  readonly environment: Readonly<Record<string, string>>
  /** Variables of ours that the tier must not see: secrets that are another tier's. */
  readonly withhold: ReadonlyArray<string>
}

const environmentOf = ({ environment, withhold }: Options): NodeJS.ProcessEnv => {
  const kept = Object.entries(process.env).filter(([name]) => !withhold.includes(name))
  return { ...Object.fromEntries(kept), ...environment }
}

const stop = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    const timer = setTimeout(() => child.kill("SIGKILL"), GRACE_MS)
    child.once("exit", () => {
      clearTimeout(timer)
      resume(Effect.void)
    })
    child.kill("SIGTERM")
  })

/** Starts a tier in the scope; closing the scope ends it and waits for that. */
export const start = Effect.fnUntraced(function* (options: Options) {
  const { args, entry } = options
  const name = args[0] ?? "tier"
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      fork(entry, [...args], {
        execArgv: [...process.execArgv, "--disable-sigusr1"],
        env: environmentOf(options),
        stdio: ["ignore", "pipe", "pipe", "ipc"],
        serialization: "json"
      })
    ),
    stop
  )
  const exit = yield* Deferred.make<never, TierProcessError>()
  const seen: Array<string> = []
  let lastWord = ""
  const waiting = new Set<{ readonly prefix: string; readonly found: (rest: string) => void }>()
  const failWith = (why: string, code?: number): void => {
    const message = `The ${name} tier ${why}${lastWord === "" ? "" : `: ${lastWord}`}`
    Deferred.doneUnsafe(exit, Effect.fail(new TierProcessError({ message, code })))
  }
  child.on("error", (error) => failWith(`did not start: ${error.message}`))
  // Not "exit": what it said last may still be on its way then.
  child.on("close", (code, signal) => failWith(`ended (${signal ?? `exit code ${code}`})`, code ?? undefined))
  if (child.stdout !== null) {
    createInterface({ input: child.stdout }).on("line", (line) => {
      seen.push(line)
      for (const wait of waiting) if (line.startsWith(wait.prefix)) wait.found(line.slice(wait.prefix.length).trim())
    })
  }
  if (child.stderr !== null) {
    createInterface({ input: child.stderr }).on("line", (line) => {
      if (line.startsWith(LAST_WORD)) lastWord = line.slice(LAST_WORD.length)
    })
  }
  const ended = Deferred.await(exit)
  const tier: TierProcess = {
    ended,
    line: (prefix) =>
      Effect.raceFirst(
        Effect.callback<string>((resume) => {
          const old = seen.find((line) => line.startsWith(prefix))
          if (old !== undefined) return resume(Effect.succeed(old.slice(prefix.length).trim()))
          const wait = { prefix, found: (rest: string) => resume(Effect.succeed(rest)) }
          waiting.add(wait)
          return Effect.sync(() => waiting.delete(wait))
        }),
        ended
      )
  }
  return tier
})
