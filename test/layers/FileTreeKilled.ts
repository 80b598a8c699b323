/** Writes the file that FileTreeDisk.test.ts expects, a line for each piece, until it is killed. */
import * as Fs from "node:fs"
import * as Effect from "effect/Effect"
import { BLOCK_LENGTH } from "../../src/domain/RemoteFile.ts"
import * as RemoteFilesNode from "../../src/layers/RemoteFilesNode.ts"
import { pattern } from "../services/Pattern.ts"

const bytes = pattern(40 * BLOCK_LENGTH + 3, 9)
const program = Effect.gen(function* () {
  const tree = yield* RemoteFilesNode.make({ base: process.argv[2] ?? "" })
  const writer = yield* tree.write("f", { size: bytes.length, fingerprint: "x", conflict: "replace" })
  for (let at = writer.resumed; at < bytes.length; at += BLOCK_LENGTH) {
    yield* writer.append(bytes.slice(at, at + BLOCK_LENGTH))
    Fs.writeSync(1, "written\n")
  }
  yield* writer.commit
  Fs.writeSync(1, "done\n")
})
await Effect.runPromise(Effect.scoped(program))
