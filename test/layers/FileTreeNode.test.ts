import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, beforeAll, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as RemoteFilesNode from "../../src/layers/RemoteFilesNode.ts"
import * as Contract from "../services/FileTreeContract.ts"

let box = ""
let bases = 0
beforeAll(() => {
  box = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-tree-"))
})
afterAll(() => Fs.rmSync(box, { recursive: true, force: true }))

for (const byPaths of [false, true]) {
  describe.skipIf(process.platform === "win32")(`FileTree: Node, ${byPaths ? "by paths" : "by descriptors"}`, () => {
    Contract.suite(() =>
      Effect.suspend(() => RemoteFilesNode.make({ base: Path.join(box, `base${bases++}`), byPaths }))
    )
  })
}
