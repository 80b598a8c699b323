/** What a bundle must do that its parts do by themselves: a dependency that looks for files beside its own finds none there. */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { bundle } from "../../tools/Bundler.ts"

const root = Path.resolve(import.meta.dirname, "../..")

describe("tools/Bundler.ts", () => {
  it("bundles what speaks UPnP so that it loads and searches anywhere", async () => {
    const box = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-bundler-"))
    try {
      const file = Path.join(box, "upnp.cjs")
      await bundle(root, "node_modules/@achingbrain/nat-port-mapper/dist/src/index.js", file)
      const program = `
        const { upnpNat } = require(process.argv[1])
        const stop = new AbortController()
        const found = upnpNat().findGateways({ signal: stop.signal }).next()
        stop.abort()
        found.then(({ done }) => process.stdout.write("searched " + done))`
      const { stderr, stdout } = spawnSync(process.execPath, ["-e", program, file], { cwd: box, encoding: "utf8" })
      assert.strictEqual(stdout, "searched true", stderr)
    } finally {
      Fs.rmSync(box, { recursive: true, force: true })
    }
  })
})
