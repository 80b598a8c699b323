/** A worker as the program is shipped, `BUNDLE KEPT ...`: with the code that an earlier run compiled, or none where KEPT is "". */
import { run } from "../bin/Bundle.mjs"

const [bundle, kept] = process.argv.splice(2, 2)
run(bundle, kept === "" ? undefined : kept)
