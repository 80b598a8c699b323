/**
 * A server under a flood of all kinds, with a device that talks and another that pairs meanwhile, and what it cost. For a
 * test with few datagrams, and for `node test/soak/Flood.ts` with as many as one likes.
 */
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import { attack, initiation } from "./Attacker.ts"
import type { Orders, Outcome } from "./Flooder.ts"
import { command, connect, device, echo, freshFile, identityOf, say, status, World } from "./Tiers.ts"

export interface Report extends Outcome {
  /** Datagrams that the server has counted as leading nowhere: the kernel lost the others. */
  readonly dropped: Readonly<Record<string, number>>
  readonly rssBeforeMib: number
  readonly rssAfterMib: number
  /** The server's, in seconds of processor time, while it lasted. */
  readonly cpuSeconds: number
  /** Bytes that the server has written to logs, standard error and record meanwhile. */
  readonly logBytes: number
  /** Round trips of the device that talks, ms, and questions that were answered. */
  readonly echoMs: ReadonlyArray<number>
  readonly answers: number
  /** Milliseconds that another device took to pair, its process included. */
  readonly pairMs: number
}

const flooding = (orders: Orders): Effect.Effect<Outcome> =>
  Effect.callback((resume) => {
    const child = spawn(process.execPath, [Path.join(import.meta.dirname, "Flooder.ts")], {
      stdio: ["pipe", "pipe", "inherit"]
    })
    let out = ""
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString()
    })
    child.once("close", (code) =>
      resume(code === 0 ? Effect.sync(() => JSON.parse(out)) : Effect.die(new Error(`the flooder ended with ${code}`)))
    )
    child.stdin.end(JSON.stringify(orders))
    return Effect.sync(() => child.kill())
  })

const sizeOf = (path: string): number => Fs.statSync(path, { throwIfNoEntry: false })?.size ?? 0
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

/** `rate` is in datagrams a second, 0 for as many as go. */
export const flood = Effect.fnUntraced(function* (options: { readonly count: number; readonly rate: number }) {
  const { folder, home, port, recorder, server } = yield* World
  const paths = HomePaths.server(home)
  const honest = yield* device("honest")
  const session = yield* connect(honest)
  yield* say(session, "hello")
  // What an eavesdropper has: first flights, and the id of a session that lives.
  const known = yield* attack(yield* device("overheard"), port)
  const identity = yield* identityOf(honest)
  const [invitation] = yield* identity.invitations
  if (invitation === undefined) return yield* Effect.die(new Error("not paired"))
  const expected = initiation({ invitation, identity: identity.keyPair, hint: 3 }).datagram
  const orders: Orders = {
    ...options,
    port,
    replays: recorder.passed.filter(({ bytes, up }) => up && bytes.length === 1200).map(({ bytes }) => hex(bytes)),
    prefixes: [
      { bytes: hex(known.remoteId), length: 160 },
      { bytes: hex(expected.subarray(0, 8)), length: 1200 }
    ]
  }
  const { path } = yield* freshFile

  const logs = () => server().err.length + sizeOf(paths.log) + sizeOf(paths.audit)
  const before = { ...(yield* status), rssMib: server().rssKib / 1024, cpu: server().cpuSeconds, logs: logs() }
  const running = yield* Effect.forkChild(flooding(orders))
  const pairing = Effect.gen(function* () {
    const start = performance.now()
    const other = `${folder}/newcomer-${hex(randomBytes(4))}`
    const paired = yield* command(["pair", path, `--home=${other}`, `--key-file=${paths.bootstrapKey}`])
    if (paired.code !== 0) return yield* Effect.die(new Error(`not paired: ${paired.err}`))
    return performance.now() - start
  })
  const paired = yield* Effect.forkChild(pairing)
  const echoMs: Array<number> = []
  let answers = 0
  do {
    const start = performance.now()
    yield* echo(session)
    echoMs.push(performance.now() - start)
    if (echoMs.length % 20 === 1) {
      if ((yield* say(session, `question ${answers}`)) !== "") answers++
      known.send({ type: "Ping" })
    }
    yield* Effect.sleep(10)
  } while (running.pollUnsafe() === undefined)
  const outcome = yield* Fiber.join(running)
  const pairMs = yield* Fiber.join(paired)
  const after = yield* status
  const dropped = Object.fromEntries(
    Object.entries(after.drops).map(([reason, count]) => [reason, count - (before.drops[reason] ?? 0)])
  )
  return {
    ...outcome,
    dropped,
    rssBeforeMib: before.rssMib,
    rssAfterMib: server().rssKib / 1024,
    cpuSeconds: server().cpuSeconds - before.cpu,
    logBytes: logs() - before.logs,
    echoMs: echoMs.sort((a, b) => a - b),
    answers,
    pairMs
  } satisfies Report
})
