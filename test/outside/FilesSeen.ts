/** A real server's process on a base path of its own, watched by strace where there is one, and a paired client of this process. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import { Priority } from "../../src/domain/protocol/Streams.ts"
import * as BootstrapKey from "../../src/programs/BootstrapKey.ts"
import * as ClientIdentity from "../../src/programs/ClientIdentity.ts"
import * as CredentialFiles from "../../src/programs/CredentialFiles.ts"
import type { Event, Item } from "../../src/programs/TransferEvent.ts"
import * as Transfers from "../../src/programs/Transfers.ts"
import type { Crypto } from "../../src/services/Crypto.ts"
import type { FileTree } from "../../src/services/FileTree.ts"
import { bin, cache } from "../Program.ts"
import { connect, temporaryFolder, udp } from "./Tiers.ts"

/** Whether system calls can be watched here. */
export const hasStrace =
  process.platform === "linux" && spawnSync("strace", ["-f", "-o", "/dev/null", "true"]).status === 0

const CALLS =
  "open,openat,openat2,creat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,symlink,truncate"

const ended = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("close", () => resume(Effect.void))
  })

/** Waits for a server's process to listen. */
const listening = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    let said = ""
    const hear = (text: unknown): void => {
      said += String(text)
      if (said.includes("Credential file:")) resume(Effect.void)
    }
    child.stdout?.on("data", hear)
    child.stderr?.on("data", hear)
    child.once("close", () => resume(Effect.die(new Error(`ended: ${said}`))))
  })

/**
 * `box` holds `base` (with `in/deep`), and beside it what must stay as it is: `canary`, `outside/canary`, `outside/deep/canary`.
 * It all goes with the scope.
 */
export const make = Effect.fnUntraced(function* ({ watched = false }: { readonly watched?: boolean } = {}) {
  const folder = yield* temporaryFolder
  const box = Path.join(Fs.realpathSync(folder), "box")
  const base = Path.join(box, "base")
  for (const inner of ["base/in/deep", "outside/deep"]) Fs.mkdirSync(Path.join(box, inner), { recursive: true })
  for (const name of ["canary", "outside/canary", "outside/deep/canary"])
    Fs.writeFileSync(Path.join(box, name), `the canary of ${name}`)
  for (const name of ["in/inside", "in/deep/inside"]) Fs.writeFileSync(Path.join(base, name), "inside")
  const home = Path.join(folder, "server")
  const log = Path.join(folder, "strace")
  const port = yield* Effect.scoped(Effect.map(udp(), (socket) => socket.address().port))
  const server = [bin, "server", "--home", home, "--port", String(port), "--bind", "127.0.0.1", "--ip", "127.0.0.1"]
  const args = [...server, "--base-path", base]
  const strace = ["-D", "-f", "-qq", "-y", "-e", `trace=${CALLS}`, "-o", log, process.execPath]
  const isWatched = watched && hasStrace
  const child = spawn(isWatched ? "strace" : process.execPath, isWatched ? [...strace, ...args] : args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env.PATH, HOME: folder, ...cache }
  })
  const stop = Effect.suspend(() => {
    child.kill("SIGTERM")
    return ended(child)
  })
  yield* Effect.addFinalizer(() => stop)
  yield* listening(child)
  const paths = HomePaths.server(home)
  const key = yield* BootstrapKey.fromFile(paths.bootstrapKey)
  const content = yield* CredentialFiles.load(paths.credential, key)
  const session = yield* connect(Path.join(folder, "client"), ClientIdentity.pairingOf(content))
  const open = session.connection.open(Priority.Bulk)

  const run =
    (which: typeof Transfers.get) =>
    (local: FileTree, items: Iterable<Item>): Effect.Effect<ReadonlyArray<Event>, unknown, Crypto> =>
      Stream.runCollect(which({ open, local, conflict: "overwrite" }, Stream.fromIterable(items)))

  /** Everything beside the base, with contents. */
  const outside = (): ReadonlyArray<string> =>
    Fs.readdirSync(box, { recursive: true, encoding: "utf8", withFileTypes: true })
      .map((entry) => ({ path: Path.join(entry.parentPath, entry.name), isFile: entry.isFile() }))
      .filter(({ path }) => path !== base && !path.startsWith(`${base}/`))
      .map(({ isFile, path }) => `${path} ${isFile ? Fs.readFileSync(path, "utf8") : ""}`)
      .sort()

  return {
    box,
    base,
    files: session.server,
    get: run(Transfers.get),
    put: run(Transfers.put),
    outside,
    stop,
    /** System calls so far; empty where nobody watches. */
    calls: () => (isWatched ? Fs.readFileSync(log, "utf8").split("\n") : [])
  }
})
