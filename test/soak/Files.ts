/**
 * Files by the gigabyte and by the thousand between real processes on loopback, and transfers that are killed at random
 * moments. Too long for every day:
 *
 *     node test/soak/Files.ts [rounds of killing, 50] [seed, 1] [MiB of the file that is killed, 1024]
 *
 * It works below the folder that SOAK_FOLDER names, else that of temporary files, and needs 6 GB there. Contents are
 * compared by sha256sum. The first thing that is wrong ends it with a sentence and an exit code of 1.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { createCipheriv } from "node:crypto"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { performance } from "node:perf_hooks"
import { setTimeout } from "node:timers/promises"
import { SeededRandom } from "../../src/layers/SeededRandom.ts"

const rounds = Number(process.argv[2] ?? 50)
const seed = Number(process.argv[3] ?? 1)
const random = new SeededRandom(seed)
const bin = Path.resolve(import.meta.dirname, "../../bin/clawchat.mjs")
const folder = Fs.mkdtempSync(Path.join(process.env.SOAK_FOLDER ?? Os.tmpdir(), "clawchat-soak-"))
const at = (...names: ReadonlyArray<string>): string => Path.join(folder, ...names)
const PORT = 24_680
const MIB = 1024 * 1024
/** Bytes: the one big file, and the one whose transfers are killed. */
const BIG = 2000 * MIB
const KILLED = Number(process.argv[4] ?? 1024) * MIB
/** Bytes that either end may hold; run from sources the program itself takes 20 MiB more. */
const PEAK = (Fs.existsSync(Path.resolve(import.meta.dirname, "../../dist/clawchat.cjs")) ? 150 : 170) * MIB
/** Small files that go each way in a second, at the least. */
const FILES_PER_SECOND = 1500
const SMALL = 20_000
/**
 * What may be sent again after a kill, of the whole file. Of a put the client knows only what it has handed to the line, a
 * window more than has arrived: the share is an upper bound there.
 */
const AGAIN = 0.02

const running = new Set<ChildProcess>()
const print = (text: string): void => {
  process.stdout.write(`${text}\n`)
}
const wrong = (text: string): never => {
  throw new Error(text)
}

const start = (args: ReadonlyArray<string>): ChildProcess => {
  const child = spawn(process.execPath, [bin, ...args], {
    stdio: ["ignore", "pipe", "pipe"]
  })
  running.add(child)
  child.once("exit", () => running.delete(child))
  return child
}

interface Run {
  readonly child: ChildProcess
  stdout: string
  stderr: string
  /** kB, by the kernel's count. */
  peak: number
  readonly end: Promise<number | null>
}

const files = (...args: ReadonlyArray<string>): Run => {
  const child = start(["files", ...args, "--home", at("c")])
  const run: Run = {
    child,
    stdout: "",
    stderr: "",
    peak: 0,
    end: once(child, "close").then(([code]) => code)
  }
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    run.stdout += text
    run.peak = Math.max(run.peak, peakOf(child.pid))
  })
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    run.stderr += text
  })
  return run
}

const peakOf = (pid: number | undefined): number => {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0)
  } catch {
    return 0
  }
}

const ok = async (...args: ReadonlyArray<string>): Promise<Run> => {
  const run = files(...args)
  const code = await run.end
  return code === 0 ? run : wrong(`files ${args.join(" ")} ended with ${code}: ${run.stderr.slice(-2000)}`)
}

let server: ChildProcess | undefined
const serve = async (): Promise<void> => {
  server = start(["server", "--home", at("s"), "--port", String(PORT), "--bind", "127.0.0.1", "--ip", "127.0.0.1"])
  server.stderr?.resume()
  let said = ""
  await new Promise<void>((resolve, reject) => {
    server?.once("exit", () => reject(new Error(`the server ended: ${said}`)))
    server?.stdout?.setEncoding("utf8").on("data", (text: string) => {
      said += text
      if (said.includes("Listening on UDP")) resolve()
    })
  })
}

const command = async (...args: ReadonlyArray<string>): Promise<void> => {
  const child = start(args)
  child.stdout?.resume()
  let said = ""
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    said += text
  })
  const [code] = await once(child, "close")
  if (code !== 0) wrong(`clawchat ${args.join(" ")} ended with ${code}: ${said}`)
}

/** Sums of every file below a folder, by sha256sum. */
const sums = (top: string): string => {
  const found = spawnSync("sh", ["-c", "find . -type f -print0 | sort -z | xargs -0 sha256sum"], {
    cwd: top,
    encoding: "utf8",
    maxBuffer: 64 * MIB
  })
  return found.status === 0 ? found.stdout : wrong(`sha256sum: ${found.stderr}`)
}
const sum = (path: string): string => spawnSync("sha256sum", [path], { encoding: "utf8" }).stdout.slice(0, 64)

const fill = (path: string, length: number, key: number): void => {
  const cipher = createCipheriv("aes-256-ctr", Buffer.alloc(32, key), Buffer.alloc(16))
  const zeros = Buffer.alloc(MIB)
  const file = Fs.openSync(path, "w")
  for (let written = 0; written < length; written += MIB) Fs.writeSync(file, cipher.update(zeros))
  Fs.closeSync(file)
}

/** Takes up less than a hundredth of its length. */
const isHollow = (path: string): boolean => {
  const { blocks, size } = Fs.statSync(path)
  return blocks * 512 < size / 100
}

const timed = async (what: string, bytes: number, work: () => Promise<Run>, files = 0): Promise<Run> => {
  const before = performance.now()
  const run = await work()
  const seconds = (performance.now() - before) / 1000
  const peaks = `client ${(run.peak / 1024).toFixed(0)} MiB, server ${(peakOf(server?.pid) / 1024).toFixed(0)} MiB`
  print(`${what}: ${seconds.toFixed(1)} s, ${(bytes / 1e6 / seconds).toFixed(0)} MB/s; peaks: ${peaks}`)
  if (Math.max(run.peak, peakOf(server?.pid)) * 1024 > PEAK) wrong(`${what}: more than ${PEAK / MIB} MiB of memory`)
  if (files > 0 && files / seconds < FILES_PER_SECOND) wrong(`${what}: ${Math.floor(files / seconds)} files per second`)
  return run
}

type Event = Readonly<Record<string, unknown>>
const events = (run: Run): ReadonlyArray<Event> =>
  run.stdout
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line))
const last = (run: Run, tag: string, key: string): number =>
  Number(events(run).findLast((e) => e._tag === tag)?.[key] ?? 0)

/** Bytes that the last event told of; cheap enough to be asked all the time. */
const soFar = (run: Run): number => Number([...run.stdout.slice(-400).matchAll(/"bytes":(\d+)/g)].at(-1)?.[1] ?? 0)

/** Nothing stands there, or all of it does. */
const isWhole = (path: string, sent: string): boolean => !Fs.existsSync(path) || sum(path) === sent

/** One transfer, killed once at a random moment, and once more to its end. */
const kill = async (round: number, sent: string): Promise<number> => {
  const isPut = random.unit() < 0.5
  const who = (["client", "server", "both"] as const)[Math.floor(random.unit() * 3)] ?? "both"
  const target = isPut ? at("s/data", "victim") : at("got", "victim")
  Fs.rmSync(target, { force: true })
  const args = isPut ? ["put", at("victim"), "victim", "--json"] : ["get", "source", at("got/victim"), "--json"]
  const moment = random.unit() * 0.9 * KILLED
  const run = files(...args)
  while (run.child.exitCode === null && soFar(run) < moment) await setTimeout(1)
  if (who !== "server") run.child.kill("SIGKILL")
  if (who !== "client") server?.kill("SIGKILL")
  if (!isWhole(target, sent)) wrong(`round ${round}: a partial file can be seen`)
  if (who !== "client") await serve()
  const code = await run.end
  // The server's end alone is no end for a client: it counts itself what it moved.
  let moved = last(run, code === 0 ? "Done" : "Progress", code === 0 ? "moved" : "bytes")
  if (code !== 0) {
    if (!isWhole(target, sent)) wrong(`round ${round}: a partial file can be seen`)
    moved += last(await ok(...args), "Done", "moved")
  }
  if (sum(target) !== sent) wrong(`round ${round}: what arrived is not what was sent`)
  const share = Math.max(0, moved - KILLED) / KILLED
  print(`  ${round}: ${isPut ? "put" : "get"}, ${who} killed: ${(share * 100).toFixed(2)} % sent again`)
  return share
}

const main = async (): Promise<void> => {
  print(`seed ${seed}, in ${folder}`)
  await serve()
  await command("sec", "new", "--home", at("s"), "--out", at("c.sec"))
  await command("pair", at("c.sec"), "--home", at("c"), "--key-file", at("s/config/bootstrap.key"))
  Fs.mkdirSync(at("got"))

  fill(at("big"), BIG, 1)
  const whole = sum(at("big"))
  await timed("2 GB up", BIG, () => ok("put", at("big"), "--json"))
  if (sum(at("s/data/big")) !== whole) wrong("2 GB arrived otherwise than sent")
  Fs.rmSync(at("big"))
  await timed("2 GB down", BIG, () => ok("get", "big", at("got"), "--json"))
  if (sum(at("got/big")) !== whole) wrong("2 GB came back otherwise than sent")
  Fs.rmSync(at("got/big"))
  Fs.rmSync(at("s/data/big"))

  let bytes = 0
  for (let i = 0; i < SMALL; i++) {
    const path = at("small", String(i % 100), `file ${i}`)
    if (i < 100) Fs.mkdirSync(Path.dirname(path), { recursive: true })
    const length = Math.floor(random.unit() * 4096)
    bytes += length
    Fs.writeFileSync(path, Buffer.alloc(length, i))
  }
  for (const name of [
    "\u6f22\u5b57",
    "\u05e9\u05dc\u05d5\u05dd",
    "\u041c\u0438\u0440",
    "\u0939\u093f\u0902",
    "\u0633\u0644\u0627\u0645"
  ]) {
    Fs.writeFileSync(at("small", name), name)
  }
  Fs.writeFileSync(at("small/empty"), "")
  Fs.writeFileSync(at("small/one"), "1")
  Fs.writeFileSync(at("small/sparse"), "")
  Fs.truncateSync(at("small/sparse"), 100_000_000)
  const all = sums(at("small"))
  await timed("20,000 small files up", bytes, () => ok("put", "-r", at("small"), "--json"), SMALL)
  if (sums(at("s/data/small")) !== all) wrong("small files arrived otherwise than sent")
  if (!isHollow(at("s/data/small/sparse"))) wrong("the sparse file takes up space at the server")
  await timed("20,000 small files down", bytes, () => ok("get", "-r", "small", at("got"), "--json"), SMALL)
  if (sums(at("got/small")) !== all) wrong("small files came back otherwise than sent")
  if (!isHollow(at("got/small/sparse"))) wrong("the sparse file takes up space here")
  await timed("the same again", 0, () => ok("put", "-r", at("small"), "--json"))

  fill(at("victim"), KILLED, 2)
  Fs.copyFileSync(at("victim"), at("s/data/source"))
  const sent = sum(at("victim"))
  const shares: Array<number> = []
  for (let round = 1; round <= rounds; round++) shares.push(await kill(round, sent))
  const most = Math.max(0, ...shares)
  if (most > AGAIN) wrong(`${(most * 100).toFixed(2)} % of a file were sent again`)
  for (const path of [at("s/data"), at("got")]) {
    const litter = Fs.readdirSync(path).filter((name) => name.startsWith(".clawchat-part"))
    if (litter.length > 0) wrong(`${litter.length} unfinished files are left in ${path}`)
  }
  print(`${rounds} transfers killed: all arrived, at most ${(most * 100).toFixed(2)} % sent again`)
}

try {
  await main()
} catch (error) {
  print(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
} finally {
  for (const child of running) child.kill("SIGKILL")
  Fs.rmSync(folder, { recursive: true, force: true })
}
