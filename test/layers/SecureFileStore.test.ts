import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SecureFileStoreNode from "../../src/layers/SecureFileStoreNode.ts"
import { layerMemory, makeMemory, type SecureFileError, SecureFileStore } from "../../src/services/SecureFileStore.ts"

const top = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-store-"))
afterAll(() => Fs.rmSync(top, { recursive: true, force: true }))
let count = 0
const newFolder = () => Path.join(top, `${++count}`)
const bytes = (text: string) => new TextEncoder().encode(text)
const textOf = (content: Option.Option<Uint8Array>) =>
  Option.match(content, { onNone: () => undefined, onSome: (some) => new TextDecoder().decode(some) })
const reasonOf = <A>(effect: Effect.Effect<A, SecureFileError, SecureFileStore>) =>
  effect.pipe(
    Effect.flip,
    Effect.map(({ reason }) => reason)
  )
const isPosix = process.platform !== "win32"

const contract = (name: string, layer: Layer.Layer<SecureFileStore>) =>
  describe(`contract: ${name}`, () => {
    it.effect("read, write, replace, append, burn", () =>
      Effect.gen(function* () {
        const store = yield* SecureFileStore
        const path = Path.join(newFolder(), "a", "b")
        assert.isTrue(Option.isNone(yield* store.read(path)))
        yield* store.write(path, bytes("one"))
        yield* store.write(path, bytes("two"))
        assert.strictEqual(textOf(yield* store.read(path)), "two")
        yield* store.append(path, bytes("+"))
        yield* store.append(`${path}2`, bytes("x"))
        assert.strictEqual(textOf(yield* store.read(path)), "two+")
        assert.strictEqual(textOf(yield* store.read(`${path}2`)), "x")
        yield* store.burn(path)
        yield* store.burn(path)
        yield* store.burn(Path.join(newFolder(), "nowhere"))
        assert.isTrue(Option.isNone(yield* store.read(path)))
      }).pipe(Effect.provide(layer))
    )

    it.effect("content belongs to its holder", () =>
      Effect.gen(function* () {
        const store = yield* SecureFileStore
        const path = Path.join(newFolder(), "f")
        const mine = bytes("abc")
        yield* store.write(path, mine)
        mine.fill(0)
        Option.getOrThrow(yield* store.read(path)).fill(1)
        assert.strictEqual(textOf(yield* store.read(path)), "abc")
      }).pipe(Effect.provide(layer))
    )

    it.effect("create has one winner", () =>
      Effect.gen(function* () {
        const store = yield* SecureFileStore
        const path = Path.join(newFolder(), "f")
        const exits = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, i) => i),
          (i) => Effect.exit(store.create(path, bytes(`${i}`))),
          { concurrency: "unbounded" }
        )
        const winners = exits.flatMap((exit, i) => (Exit.isSuccess(exit) ? [`${i}`] : []))
        assert.strictEqual(winners.length, 1)
        assert.strictEqual(textOf(yield* store.read(path)), winners[0])
        assert.strictEqual(yield* reasonOf(store.create(path, bytes("late"))), "Exists")
        assert.deepStrictEqual(yield* store.list(Path.dirname(path)), ["f"])
      }).pipe(Effect.provide(layer))
    )

    it.effect("bounds what it reads", () =>
      Effect.gen(function* () {
        const store = yield* SecureFileStore
        const path = Path.join(newFolder(), "f")
        yield* store.write(path, bytes("12345"))
        assert.strictEqual(textOf(yield* store.read(path, { maxBytes: 5 })), "12345")
        assert.strictEqual(yield* reasonOf(store.read(path, { maxBytes: 4 })), "TooLarge")
        yield* store.write(path, new Uint8Array(1024 * 1024 + 1))
        assert.strictEqual(yield* reasonOf(store.read(path)), "TooLarge")
      }).pipe(Effect.provide(layer))
    )

    it.effect("a folder is no file", () =>
      Effect.gen(function* () {
        const store = yield* SecureFileStore
        const folder = newFolder()
        yield* store.write(Path.join(folder, "f"), bytes("x"))
        assert.strictEqual(yield* reasonOf(store.read(folder)), "Unsafe")
        assert.strictEqual(yield* reasonOf(store.write(folder, bytes("x"))), "Unsafe")
        assert.strictEqual(yield* reasonOf(store.append(folder, bytes("x"))), "Unsafe")
        assert.strictEqual(yield* reasonOf(store.burn(folder)), "Unsafe")
        assert.strictEqual(yield* reasonOf(store.create(folder, bytes("x"))), "Exists")
      }).pipe(Effect.provide(layer))
    )

    it.effect("lists files, sorted, not folders", () =>
      Effect.gen(function* () {
        const store = yield* SecureFileStore
        const folder = newFolder()
        assert.deepStrictEqual(yield* store.list(folder), [])
        for (const name of ["b", "a", ".c", "sub/x"]) yield* store.write(Path.join(folder, name), bytes(name))
        assert.deepStrictEqual(yield* store.list(folder), [".c", "a", "b"])
      }).pipe(Effect.provide(layer))
    )

    it.effect("writes land in the order in which they were asked for", () =>
      Effect.gen(function* () {
        const store = yield* SecureFileStore
        const path = Path.join(newFolder(), "f")
        const fibers = []
        for (let i = 0; i < 20; i++)
          fibers.push(yield* Effect.forkChild(store.write(path, bytes(`${i}`)), { startImmediately: true }))
        yield* Effect.forEach(fibers, Fiber.join)
        assert.strictEqual(textOf(yield* store.read(path)), "19")
      }).pipe(Effect.provide(layer))
    )

    it.effect("watch: once at first, then with each change, through replacement and removal", () =>
      Effect.gen(function* () {
        const store = yield* SecureFileStore
        const path = Path.join(newFolder(), "not", "yet", "f")
        const seen = yield* Queue.unbounded<string | undefined>()
        yield* store.watch(path).pipe(
          Stream.runForEach(() =>
            Effect.flatMap(Effect.orDie(store.read(path)), (content) => Queue.offer(seen, textOf(content)))
          ),
          Effect.forkScoped({ startImmediately: true })
        )
        const until = (wanted: string | undefined) =>
          Queue.take(seen).pipe(Effect.repeat({ until: (content) => content === wanted }))
        assert.strictEqual(yield* Queue.take(seen), undefined)
        for (const text of ["one", "two", "three"]) {
          yield* store.write(path, bytes(text))
          assert.strictEqual(yield* until(text), text)
        }
        yield* store.burn(path)
        assert.strictEqual(yield* until(undefined), undefined)
        yield* store.create(path, bytes("again"))
        assert.strictEqual(yield* until("again"), "again")
      }).pipe(Effect.provide(layer))
    )

    it.effect("one holder of a lock, until its scope closes", () =>
      Effect.gen(function* () {
        const store = yield* SecureFileStore
        const path = Path.join(newFolder(), "run", "lock")
        const first = yield* Scope.make()
        yield* store.lock(path).pipe(Scope.provide(first))
        assert.strictEqual(yield* reasonOf(Effect.scoped(store.lock(path))), "Locked")
        yield* Scope.close(first, Exit.void)
        yield* Effect.scoped(store.lock(path))
        yield* Effect.scoped(store.lock(path))
      }).pipe(Effect.provide(layer))
    )
  })

contract("memory", layerMemory)
contract("Node", SecureFileStoreNode.layer)

describe("memory", () => {
  it.effect("one disk serves programs one after the other", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const program = <A, E>(effect: Effect.Effect<A, E, SecureFileStore>) =>
        Effect.provide(effect, Layer.succeed(SecureFileStore, disk))
      yield* program(SecureFileStore.use((store) => store.write("/f", bytes("kept"))))
      assert.strictEqual(textOf(yield* program(SecureFileStore.use((store) => store.read("/f")))), "kept")
    })
  )
})

describe.skipIf(!isPosix)("Node on POSIX", () => {
  const withStore = <A, E>(
    f: (store: SecureFileStore["Service"], folder: string) => Effect.Effect<A, E, Scope.Scope>
  ) =>
    SecureFileStore.use((store) => {
      const folder = newFolder()
      Fs.mkdirSync(folder, { mode: 0o700 })
      return Effect.scoped(f(store, folder))
    }).pipe(Effect.provide(SecureFileStoreNode.layer))
  const modeOf = (path: string) => Fs.lstatSync(path).mode & 0o7777
  const umask = (mask: number) =>
    Effect.acquireRelease(
      Effect.sync(() => process.umask(mask)),
      (before) => Effect.sync(() => process.umask(before))
    )
  /** umask(2) is not for worker threads; the suite runs in forks. */
  const canUmask = (() => {
    try {
      process.umask(process.umask())
      return true
    } catch {
      return false
    }
  })()

  for (const mask of [0o000, 0o077, 0o277]) {
    it.effect.skipIf(!canUmask)(`0600 in 0700 with umask ${mask.toString(8).padStart(3, "0")}`, () =>
      withStore((store, folder) =>
        Effect.gen(function* () {
          yield* umask(mask)
          const inner = Path.join(folder, "x", "y")
          yield* store.write(Path.join(inner, "w"), bytes("w"))
          yield* store.create(Path.join(inner, "c"), bytes("c"))
          yield* store.append(Path.join(inner, "a"), bytes("a"))
          yield* store.lock(Path.join(inner, "l"))
          for (const name of ["w", "c", "a", "l"]) assert.strictEqual(modeOf(Path.join(inner, name)), 0o600, name)
          assert.strictEqual(modeOf(inner), 0o700)
          assert.strictEqual(modeOf(Path.dirname(inner)), 0o700)
        })
      )
    )
  }

  it.effect("a 0644 file is replaced by write, refused by read and append, with the remedy", () =>
    withStore((store, folder) =>
      Effect.gen(function* () {
        const path = Path.join(folder, "f")
        Fs.writeFileSync(path, "old")
        Fs.chmodSync(path, 0o644)
        const error = yield* Effect.flip(store.read(path))
        assert.strictEqual(error.reason, "Unsafe")
        assert.strictEqual(error.message, `${path}: group or others have access (mode 0644); run: chmod 600 ${path}`)
        assert.strictEqual((yield* Effect.flip(store.append(path, bytes("x")))).reason, "Unsafe")
        yield* store.write(path, bytes("new"))
        assert.strictEqual(modeOf(path), 0o600)
        assert.strictEqual(textOf(yield* store.read(path)), "new")
      })
    )
  )

  it.effect("links are refused and never followed", () =>
    withStore((store, folder) =>
      Effect.gen(function* () {
        const target = Path.join(folder, "target")
        const link = Path.join(folder, "link")
        const dangling = Path.join(folder, "dangling")
        yield* store.write(target, bytes("precious"))
        Fs.symlinkSync(target, link)
        Fs.symlinkSync(Path.join(folder, "nowhere"), dangling)
        for (const path of [link, dangling]) {
          assert.strictEqual((yield* Effect.flip(store.read(path))).reason, "Unsafe")
          assert.strictEqual((yield* Effect.flip(store.write(path, bytes("x")))).reason, "Unsafe")
          assert.strictEqual((yield* Effect.flip(store.append(path, bytes("x")))).reason, "Unsafe")
          assert.strictEqual((yield* Effect.flip(store.create(path, bytes("x")))).reason, "Exists")
          assert.strictEqual((yield* Effect.flip(Effect.scoped(store.lock(path)))).reason, "Unsafe")
        }
        assert.deepStrictEqual(yield* store.list(folder), ["target"])
        yield* store.burn(link)
        yield* store.burn(dangling)
        assert.strictEqual(textOf(yield* store.read(target)), "precious")
        assert.deepStrictEqual(Fs.readdirSync(folder), ["target"])
      })
    )
  )

  it.effect("FIFOs and sockets never block", () =>
    withStore((store, folder) =>
      Effect.gen(function* () {
        const fifo = Path.join(folder, "fifo")
        assert.strictEqual(ChildProcess.spawnSync("mkfifo", [fifo]).status, 0)
        // More at once than the pool of file threads has.
        const reasons = yield* Effect.forEach(
          Array.from({ length: 12 }, (_, i) => i),
          (i) =>
            Effect.flip(
              Effect.asVoid(
                i % 3 === 0
                  ? store.read(fifo)
                  : i % 3 === 1
                    ? store.append(fifo, bytes("x"))
                    : store.write(fifo, bytes("x"))
              )
            ),
          { concurrency: "unbounded" }
        )
        for (const { reason } of reasons) assert.strictEqual(reason, "Unsafe")
        assert.deepStrictEqual(yield* store.list(folder), [])
        yield* store.burn(fifo)
        assert.isFalse(Fs.existsSync(fifo))
        assert.strictEqual((yield* Effect.flip(store.read("/dev/null"))).reason, "Unsafe")
      })
    )
  )

  // There mkdir(2) says "no such file or directory" although the parent stands.
  it.effect.skipIf(!Fs.existsSync("/proc/self"))("a place where no folder can be made is an error, not a wait", () =>
    withStore((store) =>
      Effect.gen(function* () {
        for (const path of ["/proc/clawchat/f", "/proc/clawchat/run/lock"]) {
          for (const attempt of [store.write(path, bytes("x")), Effect.scoped(store.lock(path))]) {
            const error = yield* Effect.flip(attempt)
            assert.strictEqual(error.reason, "Io")
            assert.match(error.message, /^\/proc\/clawchat: no folder can be made here \(ENOENT\)$/)
          }
        }
      })
    )
  )

  it.effect.skipIf(process.geteuid?.() !== 0)("another user's file is refused (needs root)", () =>
    withStore((store, folder) =>
      Effect.gen(function* () {
        const path = Path.join(folder, "f")
        yield* store.write(path, bytes("x"))
        Fs.chownSync(path, 12_345, 12_345)
        const error = yield* Effect.flip(store.read(path))
        assert.strictEqual(error.message, `${path}: belongs to user 12345, this process runs as user 0`)
        assert.strictEqual((yield* Effect.flip(store.write(path, bytes("y")))).reason, "Unsafe")
        assert.strictEqual((yield* Effect.flip(store.append(path, bytes("y")))).reason, "Unsafe")
      })
    )
  )

  it.effect("a file where a folder should be", () =>
    withStore((store, folder) =>
      Effect.gen(function* () {
        yield* store.write(Path.join(folder, "f"), bytes("x"))
        assert.strictEqual((yield* Effect.flip(store.read(Path.join(folder, "f", "g")))).reason, "Unsafe")
        assert.strictEqual((yield* Effect.flip(store.write(Path.join(folder, "f", "g"), bytes("x")))).reason, "Unsafe")
      })
    )
  )

  it.effect("what crashed writers left is never listed, swept by list and write, burnt by burn", () =>
    withStore((store, folder) =>
      Effect.gen(function* () {
        const child = ChildProcess.spawnSync(process.execPath, ["-e", "0"])
        const dead = (name: string) => Path.join(folder, `.${name}.${child.pid}-0123456789abcdef.tmp`)
        const living = Path.join(folder, `.f.${process.ppid}-0123456789abcdef.tmp`)
        const others = [Path.join(folder, ".notes.tmp"), Path.join(folder, "x.tmp")]
        for (const path of [living, ...others]) Fs.writeFileSync(path, "t", { mode: 0o600 })
        const leave = () => Fs.writeFileSync(dead("f"), "secret", { mode: 0o600 })
        leave()
        assert.deepStrictEqual(yield* store.list(folder), [".notes.tmp", "x.tmp"])
        assert.isFalse(Fs.existsSync(dead("f")))
        leave()
        yield* store.write(Path.join(folder, "g"), bytes("g"))
        assert.isFalse(Fs.existsSync(dead("f")))
        leave()
        yield* store.burn(Path.join(folder, "f"))
        assert.isFalse(Fs.existsSync(dead("f")))
        assert.isTrue(Fs.existsSync(living))
        Fs.utimesSync(living, 0, 0)
        yield* store.list(folder)
        assert.isFalse(Fs.existsSync(living))
      })
    )
  )

  it.effect("a writer whose temporary file is swept by another tries again", () => {
    let swept = 0
    const layer = SecureFileStoreNode.layerWith({
      onStep: (step, path) => {
        if (step !== "rename" || swept++ > 3) return
        const folder = Path.dirname(path)
        for (const name of Fs.readdirSync(folder)) if (name.endsWith(".tmp")) Fs.rmSync(Path.join(folder, name))
      }
    })
    return SecureFileStore.use((store) =>
      Effect.gen(function* () {
        const path = Path.join(newFolder(), "f")
        yield* store.write(path, bytes("there"))
        assert.strictEqual(textOf(yield* store.read(path)), "there")
        assert.strictEqual(swept, 5)
      })
    ).pipe(Effect.provide(layer))
  })

  it.effect("a burnt file is zeroed before it goes", () =>
    withStore((store, folder) =>
      Effect.gen(function* () {
        const path = Path.join(folder, "f")
        const witness = Path.join(folder, "witness")
        yield* store.write(path, bytes("secret"))
        Fs.linkSync(path, witness)
        yield* store.burn(path)
        assert.deepStrictEqual([...Fs.readFileSync(witness)], [0, 0, 0, 0, 0, 0])
      })
    )
  )

  it.effect("a crash at any step leaves the old content or the new", () =>
    Effect.gen(function* () {
      const outcomes: Array<string> = []
      for (const operation of ["write", "create", "burn"] as const) {
        for (let at = 1; ; at++) {
          const path = Path.join(newFolder(), "f")
          const plain = yield* SecureFileStore.pipe(Effect.provide(SecureFileStoreNode.layer, { local: true }))
          if (operation !== "create") yield* plain.write(path, bytes("old"))
          let step = 0
          const onStep = () => {
            if (++step >= at) throw new Error("crash")
          }
          const crashing = yield* SecureFileStore.pipe(
            Effect.provide(SecureFileStoreNode.layerWith({ onStep }), { local: true })
          )
          const exit = yield* Effect.exit(
            operation === "burn" ? crashing.burn(path) : crashing[operation](path, bytes("new"))
          )
          const after = textOf(yield* plain.read(path))
          const allowed = { write: ["old", "new"], create: [undefined, "new"], burn: ["old", "\0\0\0", undefined] }
          assert.include(allowed[operation], after, `${operation} at ${at}`)
          yield* plain.list(Path.dirname(path))
          const expected = after === undefined ? [] : ["f"]
          assert.deepStrictEqual(Fs.readdirSync(Path.dirname(path)), expected, `${operation} at ${at}`)
          if (Exit.isSuccess(exit)) break
          outcomes.push(`${operation} ${at}`)
        }
      }
      assert.deepStrictEqual(outcomes, [
        ...[1, 2, 3, 4, 5].map((at) => `write ${at}`),
        ...[1, 2, 3, 4, 5, 6].map((at) => `create ${at}`),
        ...[1, 2, 3, 4].map((at) => `burn ${at}`)
      ])
    })
  )
})

describe("Node with other processes", () => {
  const source = (file: string) => JSON.stringify(Path.resolve(import.meta.dirname, "../../src", file))
  const script = (body: string) => `
    import * as Effect from "effect/Effect"
    import * as Exit from "effect/Exit"
    import * as Scope from "effect/Scope"
    import { layer } from ${source("layers/SecureFileStoreNode.ts")}
    import { SecureFileStore } from ${source("services/SecureFileStore.ts")}
    const store = await Effect.runPromise(SecureFileStore.pipe(Effect.provide(layer)))
    const path = process.env.STORE_PATH
    ${body}`
  const start = (path: string, body: string) =>
    Effect.acquireRelease(
      Effect.sync(() =>
        ChildProcess.spawn(process.execPath, ["--input-type=module-typescript", "-e", script(body)], {
          cwd: Path.resolve(import.meta.dirname, "../.."),
          env: { PATH: process.env.PATH ?? "", STORE_PATH: path, NODE_NO_WARNINGS: "1" },
          stdio: ["ignore", "inherit", "inherit", "ipc"]
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
  const exited = (child: ChildProcess.ChildProcess) =>
    Effect.callback<void>((resume) => {
      if (child.exitCode !== null || child.signalCode !== null) resume(Effect.void)
      else child.once("exit", () => resume(Effect.void))
    })
  const message = (child: ChildProcess.ChildProcess) =>
    Effect.callback<unknown>((resume) => {
      child.once("message", (value) => resume(Effect.succeed(value)))
    })

  it.effect("kill -9 at 30 moments leaves whole content, and nothing behind", () =>
    Effect.gen(function* () {
      const path = Path.join(newFolder(), "f")
      const store = yield* SecureFileStore
      // Each content is one letter, many times over, so that a mix of two or a part of one would show.
      const body = `
        for (let i = 0; ; i++) {
          const letter = 97 + (i % 26)
          await Effect.runPromise(store.write(path, new Uint8Array(50_000 + letter).fill(letter)))
          process.send(i)
        }`
      for (let round = 0; round < 30; round++) {
        const child = yield* start(path, body)
        yield* Effect.callback<void>((resume) => {
          child.on("message", (i) => {
            if (i !== round) return
            child.kill("SIGKILL")
            resume(Effect.void)
          })
        })
        yield* exited(child)
        const content = Option.getOrThrow(yield* store.read(path))
        const letter = content[0] as number
        assert.strictEqual(content.length, 50_000 + letter)
        assert.isTrue(content.every((byte) => byte === letter))
        assert.deepStrictEqual(yield* store.list(Path.dirname(path)), ["f"])
        assert.deepStrictEqual(Fs.readdirSync(Path.dirname(path)), ["f"])
      }
    }).pipe(Effect.provide(SecureFileStoreNode.layer))
  )

  it.effect("a lock keeps other processes out and dies with its holder", () =>
    Effect.gen(function* () {
      const path = Path.join(newFolder(), "lock")
      const store = yield* SecureFileStore
      const child = yield* start(
        path,
        `const scope = await Effect.runPromise(Scope.make())
         await Effect.runPromise(store.lock(path).pipe(Scope.provide(scope)))
         process.send("locked")
         process.on("message", () => {})`
      )
      assert.strictEqual(yield* message(child), "locked")
      assert.strictEqual(yield* reasonOf(Effect.scoped(store.lock(path))), "Locked")
      child.kill("SIGKILL")
      yield* exited(child)
      yield* Effect.scoped(store.lock(path))
      assert.deepStrictEqual(Fs.readdirSync(Path.dirname(path)), ["lock"])
    }).pipe(Effect.provide(SecureFileStoreNode.layer))
  )

  it.effect("four processes create, one wins", () =>
    Effect.gen(function* () {
      const path = Path.join(newFolder(), "f")
      const children = yield* Effect.forEach([0, 1, 2, 3], () =>
        start(
          path,
          `process.once("message", async () => {
             const exit = await Effect.runPromiseExit(store.create(path, new TextEncoder().encode(String(process.pid))))
             process.send(Exit.isSuccess(exit) ? process.pid : 0)
           })
           process.send("ready")`
        )
      )
      yield* Effect.forEach(children, message, { concurrency: "unbounded" })
      const results = yield* Effect.forEach(
        children,
        (child) =>
          Effect.suspend(() => {
            child.send("go")
            return message(child)
          }),
        { concurrency: "unbounded" }
      )
      const winners = results.filter((result) => result !== 0)
      const store = yield* SecureFileStore
      assert.strictEqual(winners.length, 1)
      assert.strictEqual(textOf(yield* store.read(path)), String(winners[0]))
    }).pipe(Effect.provide(SecureFileStoreNode.layer))
  )
})
