/**
 * What `npm test` has no time for: `npm run soak [-- days [first seed]]`. Virtual days of all kinds, three days long, one
 * after the other; prints a line each and stops at the first that fails, with the seed that replays it.
 */
import * as Bbr from "../../src/domain/protocol/Bbr.ts"
import * as NewReno from "../../src/domain/protocol/NewReno.ts"
import { live } from "../protocol/Day.ts"

const [count = 20, first = 1] = process.argv.slice(2).map(Number)
const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

let packets = 0
for (let seed = first; seed < first + count; seed++) {
  const congestion = [[Bbr.make], [Bbr.make, NewReno.make], [NewReno.make]][seed % 3] ?? []
  const report = live({ seed, hours: 72, congestion, files: 1 + (seed % 4) * 2 })
  packets += report.packets
  const { cuts, files, lost, messages, moves, sessions } = report
  print(
    `seed ${seed}: ${report.packets} packets, ${lost} lost, ${cuts} cuts, ${moves} moves, ${sessions} sessions; ` +
      `${messages} messages, ${files.whole} files of ${(files.bytes / 1e6).toFixed(0)} MB, ${files.cancelled} given up`
  )
}
print(`${count} times three days, ${packets} packets: not a byte wrong, nothing left behind`)
