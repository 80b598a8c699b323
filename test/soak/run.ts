/**
 * What `npm test` has no time for, with the seed that replays a failure:
 *
 *     npm run soak [-- days [first seed]]               virtual days of all kinds, three days long; 20 and 1
 *     npm run soak -- worlds [minutes [first seed]]     explored worlds for so long; 10 and 1000
 *
 * Prints what was lived through and stops at the first failure.
 */
import * as Bbr from "../../src/domain/protocol/Bbr.ts"
import * as NewReno from "../../src/domain/protocol/NewReno.ts"
import { live } from "../protocol/Day.ts"
import * as Worlds from "./Worlds.ts"

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

const days = (count: number, first: number): void => {
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
}

const [what = "", ...rest] = process.argv.slice(2)
if (what === "worlds") {
  const [minutes = 10, first = 1000] = rest.map(Number)
  process.exitCode = (await Worlds.live(minutes, first)) ? 0 : 1
} else {
  const [count = 20, first = 1] = process.argv.slice(2).map(Number)
  days(count, first)
}
