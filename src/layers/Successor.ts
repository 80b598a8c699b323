/**
 * The end of a process whose keys are burnt, and the fresh one that takes its place. A supervisor (systemd, `clawchat up`, a
 * container's) sees the exit code and starts it; a process that nobody supervises starts its own successor first.
 */
import { spawn } from "node:child_process"
import * as Effect from "effect/Effect"

/**
 * Whether somebody starts this process anew: it has a parent with an IPC channel, is the first process of its container, or
 * systemd says that it started it, or the small wrapper that stands before it on an old Node.
 */
const isSupervised = (): boolean => {
  const started = process.env.SYSTEMD_EXEC_PID
  return (
    process.send !== undefined ||
    process.pid === 1 ||
    started === String(process.pid) ||
    started === String(process.ppid)
  )
}

/**
 * Ends this process at once, with nothing run on the way out. Where nobody would start it anew, the same command is started
 * first, on the same streams and in a session of its own; `announce` is told its process id.
 */
export const giveWay = (code: number, announce: (pid: number) => Effect.Effect<void>): Effect.Effect<never> =>
  Effect.gen(function* () {
    if (!isSupervised()) {
      const { pid } = yield* Effect.sync(() => {
        const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
          stdio: "inherit",
          detached: true
        })
        // Without a listener a failed start would be thrown; there is nobody left to tell.
        child.on("error", () => {})
        child.unref()
        return child
      })
      if (pid !== undefined) yield* announce(pid)
    }
    return process.exit(code)
  })
