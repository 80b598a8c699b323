/** What others on the same host can see of a running system: modes, environments, command lines, ports, logs. */
import * as Fs from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import {
  assertNoSecrets,
  freePort,
  hasProc,
  inWorld,
  llmEnv,
  openToOthers,
  readOr,
  secrets,
  Tiers,
  tree,
  whyNoProc
} from "./Tiers.ts"

const BOOTSTRAP_KEY = "a-bootstrap-key-for-a-test-only"
const API_KEY = "sk-an-api-key-for-a-test-only"

describe.skipIf(!hasProc)(`secrets of running processes${whyNoProc}`, () => {
  it(
    "files are 0600 and folders 0700 whatever the umask",
    inWorld(async (world) => {
      const tiers = await Tiers.start(world, { umask: 0 })
      const home = world.path("c")
      const file = world.path("f.sec")
      await world.ok(["sec", "new", "--home", tiers.home, "--out", file], { umask: 0 })
      assert.strictEqual(Fs.statSync(file).mode & 0o777, 0o600)
      await world.ok(["pair", file, "--home", home, "--key-file", tiers.keyFile], { umask: 0 })
      await world.ok(["chat", "hello", "--home", home], { umask: 0 })
      assert.deepStrictEqual(openToOthers(tiers.home), [])
      assert.deepStrictEqual(openToOthers(home), [])
      const up = ["up", "--home", world.path("h")]
      await world.ok(up, { umask: 0, input: "hello\n", env: llmEnv(await freePort()) })
      assert.deepStrictEqual(openToOthers(world.path("h")), [])
    })
  )

  it(
    "under up, each tier has its own secrets and not the other's; none is on a command line",
    inWorld(async (world) => {
      const up = world.start(["up", "--home", world.path("h"), "--provider", "offline"], {
        open: true,
        env: { ...llmEnv(await freePort()), CLAWCHAT_BOOTSTRAP_KEY: BOOTSTRAP_KEY, OPENAI_API_KEY: API_KEY }
      })
      up.write("hello\n")
      await up.out(/> hello/)
      const tier = (name: string): number =>
        world.processes().find((pid) => readOr(`/proc/${pid}/cmdline`).includes(`\0${name}\0`)) ?? assert.fail(name)
      const environment = (pid: number): string => readOr(`/proc/${pid}/environ`)
      assert.notInclude(environment(tier("server")), API_KEY)
      assert.include(environment(tier("server")), BOOTSTRAP_KEY)
      assert.notInclude(environment(tier("llm")), BOOTSTRAP_KEY)
      assert.include(environment(tier("llm")), API_KEY)
      const known = [...secrets(world), BOOTSTRAP_KEY, API_KEY]
      for (const pid of world.processes()) {
        const line = readOr(`/proc/${pid}/cmdline`)
        assert.deepStrictEqual(
          known.filter((secret) => line.includes(secret)),
          []
        )
      }
      up.end()
      assert.deepInclude(await up.exit(), { code: 0 })
      assert.isFalse(Fs.existsSync(world.path("h/config/bootstrap.key")))
      assertNoSecrets(world, [BOOTSTRAP_KEY, API_KEY])
    })
  )

  it(
    "SIGUSR1 opens no inspector, and the logs hold no secret",
    inWorld(async (world) => {
      const tiers = await Tiers.start(world)
      const home = await tiers.pair("c")
      const chat = world.start(["chat", "--home", home], { open: true })
      chat.write("hello\n")
      await chat.out(/> hello/)
      for (const running of [tiers.server, tiers.llm, chat]) running.kill("SIGUSR1")
      chat.write("still there\n")
      await chat.out(/> still there/)
      chat.end("/status\n")
      assert.deepInclude(await chat.exit(), { code: 0 })
      await tiers.server.stop()
      await tiers.llm.stop()
      assert.notMatch(world.output(), /Debugger|inspector/i)
      const logs = Object.entries(tree(world.folder)).filter(([path]) => path.endsWith(".log"))
      // Of both tiers, and the server's record.
      assert.strictEqual(logs.length, 3)
      for (const [path, log] of logs) {
        assert.isAbove(log.length, 0, path)
        assert.deepStrictEqual(
          secrets(world).filter((secret) => log.includes(secret)),
          []
        )
      }
      assertNoSecrets(world)
    })
  )
})
