import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { KERNEL_BUFFER_BYTES } from "../../src/layers/DgramSocket.ts"
import * as Doctor from "../../src/programs/cli/Doctor.ts"
import { line } from "../../src/programs/cli/Finding.ts"
import { type BoundSocket, UdpSocket, UdpSocketError } from "../../src/services/UdpSocket.ts"

const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-doctor-"))
afterAll(() => Fs.rmSync(folder, { recursive: true, force: true }))

const socketOf = (about: Partial<BoundSocket>): Layer.Layer<UdpSocket> =>
  Layer.succeed(UdpSocket, {
    implementation: "a test's",
    addresses: Effect.succeed([]),
    bind: () =>
      Effect.succeed({
        address: { host: "127.0.0.1", port: 1 },
        receive: Effect.never,
        send: () => Effect.void,
        probes: false,
        ...about
      })
  })
const broken = Layer.succeed(UdpSocket, {
  implementation: "none",
  addresses: Effect.succeed([]),
  bind: () => Effect.fail(new UdpSocketError({ reason: "Denied", message: "UDP 127.0.0.1:0: not allowed" }))
})

describe("doctor", () => {
  it.effect("tells a receive buffer that is too small, and how to raise it", () =>
    Effect.gen(function* () {
      const on = (platform: NodeJS.Platform, about: Partial<BoundSocket>) =>
        Effect.map(Effect.provide(Doctor.receiveBuffer(platform), socketOf(about)), line)
      assert.strictEqual(
        yield* on("linux", { receiveBuffer: KERNEL_BUFFER_BYTES }),
        "ok    receive buffer  4096 KiB of 4096 KiB granted"
      )
      const small = { receiveBuffer: 212_992 }
      assert.strictEqual(
        yield* on("linux", small),
        "warn  receive buffer  208 KiB of 4096 KiB granted, fast transfers will lose packets: raise it with sysctl -w net.core.rmem_max=4194304"
      )
      assert.match(yield* on("darwin", small), /^warn {2}receive buffer .* sysctl -w kern\.ipc\.maxsockbuf=8388608$/)
      assert.match(yield* on("win32", small), /^warn {2}receive buffer {2}208 KiB of 4096 KiB granted, [^:]*$/)
      assert.match(yield* on("linux", {}), /^warn {2}receive buffer .*does not tell/)
    })
  )

  it.effect("tells the sizes of datagrams by what the socket can do", () =>
    Effect.gen(function* () {
      const on = (probes: boolean) => Effect.provide(Doctor.datagrams, socketOf({ probes }))
      assert.match((yield* on(true)).detail, /65504 bytes within this host; elsewhere 1200 at first,.* 1472 .* 1440 /)
      assert.match((yield* on(false)).detail, /65504 bytes within this host; elsewhere 1200, for/)
    })
  )

  it.effect("tells a host without sockets", () =>
    Effect.gen(function* () {
      for (const check of [Doctor.receiveBuffer(), Doctor.datagrams]) {
        assert.deepInclude(yield* check, { verdict: "fail", detail: "no socket: UDP 127.0.0.1:0: not allowed" })
      }
    }).pipe(Effect.provide(broken))
  )

  it.effect.skipIf(process.geteuid === undefined)("tells a home that others may read", () =>
    Effect.gen(function* () {
      const home = Path.join(folder, "home")
      const verdict = Effect.map(Doctor.home(home), (finding) => finding.verdict)
      const { detail, verdict: absent } = yield* Doctor.home(home)
      assert.strictEqual(absent, "warn")
      assert.match(detail, /is not there yet/)
      Fs.mkdirSync(home, 0o700)
      Fs.mkdirSync(Path.join(home, "identity"), 0o700)
      assert.strictEqual(yield* verdict, "ok")
      Fs.chmodSync(home, 0o755)
      assert.strictEqual(yield* verdict, "warn")
      Fs.chmodSync(home, 0o777)
      assert.strictEqual(yield* verdict, "fail")
      Fs.chmodSync(home, 0o700)
      Fs.chmodSync(Path.join(home, "identity"), 0o750)
      const open = yield* Doctor.home(home)
      assert.strictEqual(open.verdict, "fail")
      assert.include(open.detail, `chmod 700 ${home} ${home}/identity`)
      assert.deepInclude(yield* Doctor.home(Path.join(folder, "home/identity/x/y")), { verdict: "warn" })
      Fs.writeFileSync(Path.join(folder, "file"), "")
      assert.match((yield* Doctor.home(Path.join(folder, "file"))).detail, /is no folder/)
    })
  )
})
