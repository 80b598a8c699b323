/**
 * Files up and down over 100 Mbit, 50 ms, 1 % loss, by ours, scp and rsync over ssh in turns: one large file, and many small
 * ones, which are carried on loopback too. And what a transfer at full speed adds to a chat beside it.
 */
import { spawnSync } from "node:child_process"
import { createCipheriv } from "node:crypto"
import { once } from "node:events"
import * as fs from "node:fs"
import * as path from "node:path"
import { arrived, congestions, Ends, kill, type Mover, missing, ship, sweep, type Way } from "./FileMovers.ts"
import { type Trips, talk } from "./FilesTalk.ts"
import { type Bench, digits, type Goal, type Grid, median, type Options, percentile } from "./Harness.ts"
import * as Link from "./Link.ts"
import { chosen, LOOPBACK, MB, overLink, type Place } from "./Measure.ts"

const LINE: Link.LinkOptions = { rateMbit: 100, rttMs: 50, lossPercent: 1, queueBdp: 1 }
const LINE_MBS = LINE.rateMbit / 8
const LARGE_BYTES = 128 * 1024 * 1024
/** On loopback beside a chat. */
const BUSY_BYTES = 1024 * 1024 * 1024
const CHUNK_BYTES = 16 * 1024 * 1024
const SMALL_FILES = 2000
/** Bytes: small files are from 0 up to here. */
const SMALL_BYTES = 8192
/** Seconds after which a transfer is stopped; what has arrived by then tells its rate. */
const CAP = 60
const FULL_CAP = 900
const WANTED_SHARE = 0.75
const TALK_SECONDS = 20
const FULL_TALK_SECONDS = 60
const WANTED_MORE_MS = 100
const WAYS: ReadonlyArray<Way> = ["up", "down"]

// -- contents ----------------------------------------------------------------------------------------------------------

/** Bytes that nothing can compress, the same in each run. */
const noise = (length: number, part = 0): Buffer =>
  createCipheriv("aes-256-ctr", Buffer.alloc(32, 1), Buffer.alloc(16, part)).update(Buffer.alloc(length))

const makeLarge = (file: string, bytes: number): void => {
  for (let part = 0; part * CHUNK_BYTES < bytes; part++) fs.appendFileSync(file, noise(CHUNK_BYTES, part))
}

const makeSmall = (folder: string): number => {
  const bytes = noise(SMALL_FILES * SMALL_BYTES)
  let all = 0
  for (let i = 0; i < SMALL_FILES; i++) {
    const at = path.join(folder, `folder ${i % 20}`)
    if (i < 20) fs.mkdirSync(at, { recursive: true })
    const length = bytes.readUInt32BE(i * SMALL_BYTES) % SMALL_BYTES
    fs.writeFileSync(path.join(at, `file ${i}`), bytes.subarray(i * SMALL_BYTES, i * SMALL_BYTES + length))
    all += length
  }
  return all
}

/** Sums of a file, or of all files below a folder, by sha256sum. */
const sums = (at: string): string => {
  const script =
    '[ -d "$1" ] || { sha256sum < "$1"; exit; }; cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum'
  const found = spawnSync("sh", ["-c", script, "sums", at], { encoding: "utf8", maxBuffer: 16 * 1024 * 1024 })
  if (found.status !== 0) throw new Error(`sha256sum: ${found.stderr}`)
  return found.stdout
}

// -- carrying ----------------------------------------------------------------------------------------------------------

interface Carried {
  readonly seconds: number
  readonly bytes: number
  readonly files: number
  readonly isWhole: boolean
}

let runs = 0

/** One transfer by a fresh process, from its start to its end; what arrived is compared by its sums. */
const carry = async (ends: Ends, mover: Mover, way: Way, source: string, cap: number): Promise<Carried> => {
  if (mover.tcp !== undefined) ends.place.link?.tcp(mover.tcp)
  const run = `run ${++runs}`.replace(" ", "-")
  const here = ends.at(run)
  const there = path.join(ends.remote, run)
  for (const folder of [here, there]) fs.mkdirSync(folder)
  const from = path.join(way === "up" ? here : there, "it")
  const target = way === "up" ? there : here
  const isFolder = fs.statSync(source).isDirectory()
  fs.cpSync(source, from, { recursive: true })
  spawnSync("sync")
  const started = performance.now()
  const child = ends.start(0, mover.carry(way, path.join(here, "it"), path.join(run, "it"), isFolder))
  child.stdin?.end()
  child.stdout?.resume()
  let complaint = ""
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    complaint += text
  })
  const late = setTimeout(() => kill(child), cap * 1000)
  const [code, signal] = await once(child, "exit")
  clearTimeout(late)
  const seconds = (performance.now() - started) / 1000
  const isWhole = signal === null
  const told = arrived(target)
  if (isWhole && code !== 0) throw new Error(`${mover.name} ended with ${code}: ${complaint.slice(-500)}`)
  if (isWhole && sums(path.join(target, "it")) !== sums(from)) throw new Error(`${mover.name}: other bytes arrived`)
  for (const folder of [here, there]) sweep(folder)
  return { seconds, isWhole, ...told }
}

type Taken = Readonly<Record<Way, ReadonlyArray<Carried>>>

/** All movers in turns, up and down; one that had to be stopped has no second turn. */
const turns = async (ends: Ends, movers: ReadonlyArray<Mover>, source: string, rounds: number, cap: number) => {
  const taken = new Map(movers.map(({ name }) => [name, { up: [] as Array<Carried>, down: [] as Array<Carried> }]))
  // Once before: the code cache is part of every start but the first.
  await ends.run(0, "files", "ls", "--home", ends.at("c"))
  for (let round = 0; round < rounds; round++) {
    for (const way of WAYS) {
      for (const mover of movers) {
        const all = taken.get(mover.name)?.[way]
        if (all?.every(({ isWhole }) => isWhole)) all.push(await carry(ends, mover, way, source, cap))
      }
    }
  }
  return taken as ReadonlyMap<string, Taken>
}

/** The run in the middle. */
const middle = (all: ReadonlyArray<Carried>): Carried => {
  const seconds = median(all.map((one) => one.seconds))
  return all.find((one) => one.seconds === seconds) as Carried
}

const secondsOf = ({ isWhole, seconds }: Carried): string => (isWhole ? digits(seconds) : `> ${digits(seconds)}`)

const rate = ({ bytes, seconds }: Carried): number => bytes / MB / seconds

/** Movers of a place: one of each rival per congestion control on a link, where it matters. */
const moversOf = (ends: Ends, notes: Array<string>, only: ReadonlyArray<string>): ReadonlyArray<Mover> => {
  const tcps = ends.place.link === undefined ? [undefined] : congestions()
  const rivals = (["scp", "rsync"] as const).flatMap((name) => {
    const why = missing(name)
    if (why !== undefined) notes.push(`${name}: not measured, ${why}`)
    return why === undefined ? tcps.map((tcp) => ends[name](tcp)) : []
  })
  return [ends.clawchatMover, ...chosen(rivals, only)]
}

const faster = (goals: Array<Goal>, what: string, taken: ReadonlyMap<string, Taken>, ours: string): void => {
  for (const way of WAYS) {
    const own = middle(taken.get(ours)?.[way] ?? [])
    for (const [name, all] of taken) {
      if (name === ours) continue
      const other = middle(all[way])
      const times = other.seconds / own.seconds
      const got = `${other.isWhole ? "" : "> "}${digits(times)} x`
      goals.push({ what: `${what} ${way}: wall time of ${name} / ours`, wanted: "> 1 x", got, met: times > 1 })
    }
  }
}

interface Parts {
  readonly goals: Array<Goal>
  readonly grids: Array<Grid>
  readonly notes: Array<string>
  readonly options: Options
  readonly bin: string
}

/** A place with both servers in it. */
const withEnds = async <A>(place: Place, bin: string, withAssistant: boolean, use: (ends: Ends) => Promise<A>) => {
  const ends = new Ends(place, bin)
  try {
    await ends.ours(withAssistant)
    if (!withAssistant && missing("scp") === undefined) await ends.sshd()
    return await use(ends)
  } finally {
    await ends.end()
  }
}

const capOf = (options: Options): number => options.seconds ?? (options.full ? FULL_CAP : CAP)

const large = async ({ bin, goals, grids, notes, options }: Parts): Promise<void> => {
  const [taken] = await overLink(LINE, (place) =>
    withEnds(place, bin, false, (ends) => {
      makeLarge(ends.at("large"), LARGE_BYTES)
      return turns(ends, moversOf(ends, notes, options.only), ends.at("large"), options.rounds ?? 1, capOf(options))
    })
  )
  const ours = [...taken.keys()][0] ?? ""
  const rows = [...taken].map(([name, all]) => [
    name,
    ...WAYS.flatMap((way) => {
      const one = middle(all[way])
      const times = one.seconds / middle(taken.get(ours)?.[way] ?? []).seconds
      return [secondsOf(one), digits(rate(one)), digits((100 * rate(one)) / LINE_MBS), digits(times)]
    })
  ])
  const columns = WAYS.flatMap((way) => [`${way} s`, "MB/s", "of the line %", "its time / ours"])
  grids.push({
    title: `one file of ${LARGE_BYTES / MB} MB, 100 Mbit, 50 ms, 1 % loss`,
    columns: ["", ...columns],
    rows
  })
  for (const way of WAYS) {
    const share = rate(middle(taken.get(ours)?.[way] ?? [])) / LINE_MBS
    const met = share >= WANTED_SHARE
    const got = `${digits(100 * share)} %`
    goals.push({ what: `one large file ${way}: of the line`, wanted: `>= ${100 * WANTED_SHARE} %`, got, met })
  }
  faster(goals, "one large file", taken, ours)
}

const small = async ({ bin, goals, grids, notes, options }: Parts): Promise<void> => {
  const { rounds = 1 } = options
  const at = (place: Place) =>
    withEnds(place, bin, false, async (ends) => {
      const bytes = makeSmall(ends.at("small"))
      const taken = await turns(ends, moversOf(ends, notes, options.only), ends.at("small"), rounds, capOf(options))
      return { bytes, taken }
    })
  const [line] = await overLink(LINE, at)
  const loopback = await at(LOOPBACK)
  for (const { bytes, taken, where } of [
    { ...line, where: "100 Mbit, 50 ms, 1 % loss" },
    { ...loopback, where: "loopback" }
  ]) {
    const rows = [...taken].map(([name, all]) => [
      name,
      ...WAYS.flatMap((way) => {
        const one = middle(all[way])
        return [secondsOf(one), digits(one.files / one.seconds)]
      })
    ])
    const columns = ["", ...WAYS.flatMap((way) => [`${way} s`, "files/s"])]
    grids.push({ title: `${SMALL_FILES} files of ${digits(bytes / MB)} MB in all, ${where}`, columns, rows })
  }
  faster(goals, `${SMALL_FILES} small files`, line.taken, [...line.taken.keys()][0] ?? "")
}

// -- beside a transfer -------------------------------------------------------------------------------------------------

const beside = async ({ bin, goals, grids, options }: Parts): Promise<void> => {
  const seconds = options.seconds ?? (options.full ? FULL_TALK_SECONDS : TALK_SECONDS)
  const measure = (place: Place) =>
    withEnds(place, bin, true, (ends) => {
      makeLarge(ends.at("large"), place.link === undefined ? BUSY_BYTES : LARGE_BYTES)
      return talk(ends, ends.at("large"), seconds)
    })
  const places = [
    { where: "loopback", trips: await measure(LOOPBACK) },
    { where: "100 Mbit, 50 ms, 1 %", trips: (await overLink(LINE, measure))[0] }
  ]
  const shares = [0.5, 0.95, 0.99]
  const rows = places.flatMap(({ trips, where }) =>
    trips.map(({ alone, beside, rate, what }: Trips) => {
      const more = shares.map((share) => percentile(beside, share) - percentile(alone, share))
      const met = more.every((ms) => ms < WANTED_MORE_MS)
      const got = `${more.map(digits).join(" / ")} ms`
      goals.push({
        what: `${where}: more beside, ${what}, p50 / p95 / p99`,
        wanted: `< ${WANTED_MORE_MS} ms`,
        got,
        met
      })
      const cells = [alone, beside].flatMap((times) => shares.map((share) => digits(percentile(times, share))))
      return [`${where}: ${what}`, String(beside.length), ...cells, digits(rate)]
    })
  )
  const columns = ["", "times", "alone p50 ms", "p95", "p99", "beside p50 ms", "p95", "p99", "transfer MB/s"]
  grids.push({ title: `a conversation beside files put and get at full speed, ${seconds} s each`, columns, rows })
}

const measure = async (options: Options) => {
  const why = Link.missing()
  if (why !== undefined) return { figures: [], notes: [`skipped: ${why}`] }
  const all = { large, small, beside }
  const names = Object.keys(all).map((name) => ({ name: name as keyof typeof all }))
  const parts: Parts = { goals: [], grids: [], notes: [], options, bin: await ship() }
  for (const { name } of chosen(names, options.only)) await all[name](parts)
  const versions = [
    ["ssh", "-V"],
    ["rsync", "--version"]
  ].map(([program = "", word = ""]) => {
    const { stderr, stdout } = spawnSync(program, [word], { encoding: "utf8" })
    return (stdout || stderr || `${program}: none`).split(/[\n,]/)[0]?.replace(/ +/g, " ") ?? ""
  })
  return {
    figures: [],
    grids: parts.grids,
    goals: parts.goals,
    notes: [
      ...new Set(parts.notes),
      `wall time of whole processes, ours bundled; every file compared by sha256sum; after ${capOf(options)} s a transfer is stopped ("> s")`,
      `TCP's congestion control here is ${congestions()[0]}; ${versions.join(", ")}; scp speaks SFTP, rsync goes over ssh`,
      "ours fsyncs each file before it is named; scp and rsync leave that to the kernel"
    ]
  }
}

export const bench: Bench = { name: "files", measure }
