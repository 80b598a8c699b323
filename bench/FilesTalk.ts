/** A chat and 64-byte calls in processes of their own, alone and while files go up or down as fast as they can. */
import { once } from "node:events"
import * as fs from "node:fs"
import * as path from "node:path"
import { createInterface } from "node:readline"
import { setTimeout } from "node:timers/promises"
import { arrived, type Ends, sweep, type Way } from "./FileMovers.ts"
import { MB } from "./Measure.ts"

/** Milliseconds of each round trip, alone and beside a transfer, and MB/s of that. */
export interface Trips {
  readonly what: string
  readonly alone: ReadonlyArray<number>
  readonly beside: ReadonlyArray<number>
  readonly rate: number
}

type Take = (ends: Ends, seconds: number) => Promise<ReadonlyArray<number>>

/** Milliseconds between messages; `clawchat ping` has the same between its calls. */
const PAUSE_MS = 200
/** Messages and calls before the first that counts. */
const WARM = 3

/** 64-byte calls that `clawchat ping` times itself. */
const pings: Take = async (ends, seconds) => {
  const count = WARM + Math.ceil((seconds * 1000) / PAUSE_MS)
  const said = await ends.run(0, "ping", "--count", String(count), "--home", ends.at("c"))
  return [...said.matchAll(/: ([\d.]+) ms/g)].map((found) => Number(found[1])).slice(WARM)
}

/** Messages to the assistant, each from its line into a chat to the answer's line out of it. */
const messages: Take = async (ends, seconds) => {
  const child = ends.start(0, ends.clawchat("chat", "--home", ends.at("c")))
  child.stderr?.resume()
  if (child.stdout === null) throw new Error("the chat has no output")
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  const times: Array<number> = []
  const until = performance.now() + seconds * 1000
  for (let i = 0; i < WARM || performance.now() < until; i++) {
    const text = `message ${i}, ${"x".repeat(48)}`
    const start = performance.now()
    child.stdin?.write(`${text}\n`)
    while (true) {
      const line = await lines.next()
      if (line.done === true) throw new Error("the chat ended")
      if (line.value.includes(text)) break
    }
    if (i >= WARM) times.push(performance.now() - start)
    await setTimeout(PAUSE_MS)
  }
  const over = once(child, "exit")
  child.stdin?.end()
  await over
  return times
}

let runs = 0

/** Carries the file again and again while `use` lasts; answers too how many MB arrived in each second of that. */
const during = async <A>(ends: Ends, way: Way, source: string, use: () => Promise<A>) => {
  // A name of its own each time: what is broken off would be gone on with.
  const run = `busy-${++runs}`
  const folders = { here: ends.at(run), there: path.join(ends.remote, run) }
  for (const folder of Object.values(folders)) fs.mkdirSync(folder)
  if (way === "down") fs.cpSync(source, path.join(folders.there, "it"))
  const target = way === "up" ? folders.there : folders.here
  const over = new AbortController()
  let bytes = 0
  const busy = async (): Promise<void> => {
    for (let i = 0; !over.signal.aborted; i++) {
      const [here, there] = way === "up" ? [source, `${run}/${i}`] : [path.join(folders.here, `${i}`), `${run}/it`]
      const child = ends.start(0, ends.clawchatMover.carry(way, here, there, false))
      child.stdin?.end()
      child.stdout?.resume()
      child.stderr?.resume()
      const stop = () => child.kill("SIGINT")
      over.signal.addEventListener("abort", stop)
      const [code] = await once(child, "exit")
      over.signal.removeEventListener("abort", stop)
      if (code !== 0 && !over.signal.aborted) throw new Error(`the transfer beside a chat ended with ${code}`)
      bytes += arrived(target).bytes
      for (const name of fs.readdirSync(target)) fs.rmSync(path.join(target, name), { force: true })
    }
  }
  const start = performance.now()
  const carrying = busy()
  try {
    const idle = carrying.then(() => Promise.reject(new Error("no transfer any more")))
    const answer = await Promise.race([use(), idle])
    const seconds = (performance.now() - start) / 1000
    over.abort()
    await carrying
    return { answer, rate: bytes / MB / seconds }
  } finally {
    over.abort()
    await carrying.catch(() => undefined)
    for (const folder of Object.values(folders)) sweep(folder)
  }
}

export const talk = async (ends: Ends, source: string, seconds: number): Promise<ReadonlyArray<Trips>> => {
  const trips: Array<Trips> = []
  for (const [what, take] of [
    ["64 B call", pings],
    ["chat", messages]
  ] as const) {
    const alone = await take(ends, seconds)
    for (const way of ["up", "down"] as const) {
      const { answer, rate } = await during(ends, way, source, () => take(ends, seconds))
      trips.push({ what: `${what}, files ${way}`, alone, beside: answer, rate })
    }
  }
  return trips
}
