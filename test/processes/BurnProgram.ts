/** COMPROMISED on a home of real files, by a process that kills itself at the given step of the disk. */
import * as Effect from "effect/Effect"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as SecureFileStoreNode from "../../src/layers/SecureFileStoreNode.ts"
import * as Burn from "../../src/programs/Burn.ts"
import * as Compromise from "../../src/programs/Compromise.ts"

const [home = "", at = ""] = process.argv.slice(2)
const paths = HomePaths.server(home)
const plan = Burn.server(paths, { credentials: paths.security, backup: undefined })

let steps = 0
const store = SecureFileStoreNode.layerWith({
  onStep: () => {
    if (steps++ === Number(at)) process.kill(process.pid, "SIGKILL")
  }
})

const program = Compromise.carryOut({
  plan,
  about: { cause: "here" },
  seal: Effect.succeed([]),
  wipe: Effect.void,
  answers: false
}).pipe(Effect.provide(store), Effect.provide(CryptoNode.layer))

Effect.runPromise(program).then((outcome) => {
  process.stdout.write(`${JSON.stringify({ steps, ...outcome })}\n`)
})
