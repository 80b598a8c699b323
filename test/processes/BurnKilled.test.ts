/** kill -9 at every step that COMPROMISED takes on a real disk: the next start finds all or nothing of the old. */
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as SecureFileStoreNode from "../../src/layers/SecureFileStoreNode.ts"
import * as Burn from "../../src/programs/Burn.ts"
import * as ServerCompromise from "../../src/programs/ServerCompromise.ts"

const program = Path.join(import.meta.dirname, "BurnProgram.ts")
const SECRET = "5e".repeat(32)

interface End {
  readonly signal: string | undefined
  readonly stdout: string
}

const run = (home: string, at: number): Promise<End> =>
  new Promise((resolve) => {
    execFile(process.execPath, [program, home, `${at}`], (error, stdout) =>
      resolve({ signal: error?.signal ?? undefined, stdout })
    )
  })

/** A server's home whose every file holds the secret. */
const makeHome = (): string => {
  const home = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-burn-"))
  const paths = HomePaths.server(home)
  for (const path of [
    paths.staticKey,
    HomePaths.join(paths.devices, `${"ab".repeat(16)}.json`),
    HomePaths.join(paths.archive, `${"cd".repeat(16)}.sec`),
    paths.bootstrapKey
  ]) {
    Fs.mkdirSync(Path.dirname(path), { recursive: true, mode: 0o700 })
    Fs.writeFileSync(path, `${SECRET}\n`, { mode: 0o600 })
  }
  return home
}

const holders = (home: string): ReadonlyArray<string> =>
  Fs.readdirSync(home, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => Path.join(entry.parentPath, entry.name))
    .filter((path) => Fs.readFileSync(path, "utf8").includes(SECRET))

const restart = (home: string) => {
  const paths = HomePaths.server(home)
  const plan = Burn.server(paths, { credentials: paths.security, backup: undefined })
  return Effect.runPromise(
    ServerCompromise.prepare(plan, paths, HomePaths.llm(home)).pipe(
      Effect.provide(SecureFileStoreNode.layer),
      Effect.provide(CryptoNode.layer)
    )
  )
}

describe.skipIf(process.platform === "win32")("COMPROMISED, killed at every step", () => {
  it("leaves the home as it was, or burnt", async () => {
    const homes: Array<string> = []
    const home = (): string => {
      const made = makeHome()
      homes.push(made)
      return made
    }
    try {
      const whole = home()
      const { steps } = JSON.parse((await run(whole, -1)).stdout)
      assert.isAbove(steps, 20)
      assert.deepStrictEqual(holders(whole), [])
      let begun = 0
      const outcomes = new Array<string>(steps)
      const one = async (at: number): Promise<void> => {
        const each = home()
        const { signal } = await run(each, at)
        assert.strictEqual(signal, "SIGKILL", `${at}`)
        const stands = Fs.existsSync(HomePaths.server(each).tombstone)
        await restart(each)
        const left = holders(each).length
        assert.include(stands ? [0] : [4], left, `killed at step ${at}`)
        assert.isFalse(Fs.existsSync(HomePaths.server(each).tombstone))
        outcomes[at] = stands ? "burnt" : "untouched"
        if (stands) begun++
      }
      for (let at = 0; at < steps; at += 2) await Promise.all([at, at + 1].filter((n) => n < steps).map(one))
      // Once begun it is never taken back.
      assert.isAbove(begun, steps / 2)
      assert.deepStrictEqual([...outcomes].sort().reverse(), outcomes)
    } finally {
      for (const each of homes) Fs.rmSync(each, { recursive: true, force: true })
    }
  })
})
