/** Real sockets against routers on loopback; only silence is waited for, on a clock of the test's. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as DefaultRouter from "../../src/layers/DefaultRouter.ts"
import * as PortMapperNode from "../../src/layers/PortMapperNode.ts"
import { type Mapping, PortMapper } from "../../src/services/PortMapper.ts"
import { type Behaviour, ControlRouter, HOST, type UpnpBehaviour, UpnpRouter } from "./Routers.ts"

const PORT = 50_123

const mapperFor = (control: ControlRouter | undefined, upnp: URL | false = false) =>
  Effect.provide(
    PortMapper,
    Layer.provide(
      Layer.fresh(
        PortMapperNode.layerWith({
          router: Effect.succeed(control === undefined ? undefined : HOST),
          port: control?.port ?? 1,
          upnp
        })
      ),
      CryptoNode.layerSeeded("mapper")
    )
  )
const control = (behaviour: Partial<Behaviour> = {}): Effect.Effect<ControlRouter, never, Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => ControlRouter.start(behaviour)),
    (router) => Effect.sync(() => router.close())
  )
const upnp = (behaviour: Partial<UpnpBehaviour> = {}): Effect.Effect<UpnpRouter, never, Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => UpnpRouter.start(behaviour)),
    (router) => Effect.sync(() => router.close())
  )
const mappingOf = (protocol: Mapping["protocol"], more: Partial<Mapping> = {}): Mapping => ({
  protocol,
  router: HOST,
  inside: { host: HOST, port: PORT },
  outside: { host: "198.51.100.77", port: PORT },
  lifetimeMs: 7_200_000,
  ...more
})
const refusal = (mapper: PortMapper["Service"]) =>
  Effect.map(Effect.flip(mapper.map(PORT)), ({ message, reason }) => {
    assert.notInclude(message, "\n")
    return `${reason}: ${message}`
  })

describe("PortMapperNode", () => {
  it.effect("by PCP: maps, renews what it was, gives it back", () =>
    Effect.gen(function* () {
      const router = yield* control({ portFor: (wanted) => (wanted === PORT ? 61_000 : wanted) })
      const mapper = yield* mapperFor(router)
      const first = yield* mapper.map(PORT)
      assert.deepStrictEqual(first, mappingOf("PCP", { outside: { host: "198.51.100.77", port: 61_000 } }))
      assert.deepStrictEqual(yield* mapper.map(PORT, first), first)
      assert.deepStrictEqual([...router.mappings], [[61_000, PORT]])
      yield* mapper.unmap(first)
      assert.strictEqual(router.mappings.size, 0)
      // One nonce for as long as the mapping is ours (RFC 6887 section 11.2).
      const nonces = router.requests.map((bytes) => bytes.subarray(24, 36).toString("hex"))
      assert.deepStrictEqual([nonces.length, new Set(nonces).size], [3, 1])
      assert.deepStrictEqual(yield* mapper.look, { protocol: "PCP", router: HOST, outside: undefined })
    }).pipe(Effect.scoped)
  )

  it.effect("by NAT-PMP, when the router says that it knows no PCP", () =>
    Effect.gen(function* () {
      const router = yield* control({ speaks: ["NAT-PMP"], lifetime: 600 })
      const mapper = yield* mapperFor(router)
      const first = yield* mapper.map(PORT)
      assert.deepStrictEqual(first, mappingOf("NAT-PMP", { lifetimeMs: 600_000 }))
      // Seconds, as the protocol has it.
      assert.strictEqual(router.requests.find((bytes) => bytes[0] === 0 && bytes[1] === 1)?.readUInt32BE(8), 7200)
      yield* mapper.unmap(first)
      assert.strictEqual(router.mappings.size, 0)
      assert.deepStrictEqual(yield* mapper.look, { protocol: "NAT-PMP", router: HOST, outside: "198.51.100.77" })
    }).pipe(Effect.scoped)
  )

  it.effect("by NAT-PMP, when the router says nothing to PCP; requests are repeated", () =>
    Effect.gen(function* () {
      const router = yield* control({ speaks: [] })
      const mapper = yield* mapperFor(router)
      const fiber = yield* Effect.forkChild(mapper.map(PORT))
      for (let n = 1; n <= 4; n++) {
        yield* Effect.promise(() => router.heard(n))
        if (n === 4) router.behaviour = { ...router.behaviour, speaks: ["NAT-PMP"] }
        yield* TestClock.adjust(250 * 2 ** (n - 1))
      }
      assert.deepStrictEqual(yield* Fiber.join(fiber), mappingOf("NAT-PMP"))
      assert.deepStrictEqual(
        router.requests.map((bytes) => bytes[0]),
        [2, 2, 2, 2, 0, 0]
      )
    }).pipe(Effect.scoped)
  )

  it.effect("says that there is no router where nobody listens, at once", () =>
    Effect.gen(function* () {
      const gone = yield* Effect.promise(() => ControlRouter.start())
      const nobody = yield* mapperFor(gone)
      gone.close()
      for (const mapper of [nobody, yield* mapperFor(undefined)]) {
        assert.match(yield* refusal(mapper), /^NoRouter: no router answers/)
        assert.strictEqual((yield* Effect.flip(mapper.look)).reason, "NoRouter")
      }
    }).pipe(Effect.scoped)
  )

  it.effect("tells why a router refuses", () =>
    Effect.gen(function* () {
      const router = yield* control({ refuse: 2 })
      const mapper = yield* mapperFor(router)
      assert.match(yield* refusal(mapper), /^Refused: .* 127\.0\.0\.1 does not map a port by PCP: it does not allow/)
      router.behaviour = { ...router.behaviour, speaks: ["NAT-PMP"], refuse: 4 }
      assert.match(yield* refusal(mapper), /^Refused: .* by NAT-PMP: it has no resources left$/)
      router.behaviour = { ...router.behaviour, refuse: 77 }
      assert.match(yield* refusal(mapper), /code 77$/)
    }).pipe(Effect.scoped)
  )

  it.effect("passes over answers that are for others, cut short, or none", () =>
    Effect.gen(function* () {
      const router = yield* control({
        spoil: (answer) => {
          const change = (at: number): Buffer => {
            const wrong = Buffer.from(answer)
            wrong[at] = (wrong[at] ?? 0) ^ 1
            return wrong
          }
          // Another nonce, another protocol, another port of ours; then cut at every length; then the real one.
          const wrong = [24, 36, 41].map(change)
          const cut = Array.from({ length: answer.length }, (_, length) => answer.subarray(0, length))
          return [...wrong, ...cut, answer]
        }
      })
      const mapper = yield* mapperFor(router)
      assert.deepStrictEqual(yield* mapper.map(PORT), mappingOf("PCP"))
      router.behaviour = {
        ...router.behaviour,
        speaks: ["NAT-PMP"],
        spoil: (answer) => {
          if (answer.length !== 16) return [answer]
          const other = Buffer.from(answer)
          other.writeUInt16BE(PORT + 1, 8)
          return [other, ...Array.from({ length: 16 }, (_, length) => answer.subarray(0, length)), answer]
        }
      }
      assert.deepStrictEqual(yield* mapper.map(PORT), mappingOf("NAT-PMP"))
    }).pipe(Effect.scoped)
  )

  it.effect("takes no mapping to port 0 or for no time", () =>
    Effect.gen(function* () {
      const router = yield* control({ portFor: () => 0 })
      const mapper = yield* mapperFor(router)
      assert.match(yield* refusal(mapper), /its answer makes no sense$/)
      router.behaviour = { ...router.behaviour, portFor: (wanted) => wanted, lifetime: 0 }
      assert.match(yield* refusal(mapper), /its answer makes no sense$/)
    }).pipe(Effect.scoped)
  )

  it.effect("by UPnP, where nothing else is answered", () =>
    Effect.gen(function* () {
      const router = yield* upnp({ portFor: (wanted) => (wanted === PORT ? 62_000 : wanted) })
      const mapper = yield* mapperFor(undefined, router.url)
      const outside = { host: "198.51.100.78", port: 62_000 }
      const first = yield* mapper.map(PORT)
      assert.deepStrictEqual(first, mappingOf("UPnP", { outside, lifetimeMs: 3_600_000 }))
      const { action, fields } = router.calls[0] ?? assert.fail("no call")
      assert.strictEqual(action, "AddAnyPortMapping")
      assert.deepInclude(fields, {
        NewExternalPort: String(PORT),
        NewInternalPort: String(PORT),
        NewInternalClient: HOST,
        NewProtocol: "UDP",
        NewLeaseDuration: "3600",
        NewPortMappingDescription: "clawchat"
      })
      assert.deepStrictEqual(yield* mapper.map(PORT, first), first)
      assert.deepStrictEqual(yield* mapper.look, { protocol: "UPnP", router: HOST, outside: "198.51.100.78" })
      yield* mapper.unmap(first)
    }).pipe(Effect.scoped)
  )

  it.effect("asks by UPnP what was refused otherwise, and tells the first refusal when that fails too", () =>
    Effect.gen(function* () {
      const router = yield* control({ refuse: 11 })
      const other = yield* upnp()
      const mapper = yield* mapperFor(router, other.url)
      assert.strictEqual((yield* mapper.map(PORT)).protocol, "UPnP")
      other.behaviour = { ...other.behaviour, refuse: 606 }
      assert.match(yield* refusal(mapper), /by PCP: it cannot give the port$/)
      const alone = yield* mapperFor(undefined, other.url)
      assert.match(yield* refusal(alone), /^Refused: .*127\.0\.0\.1 does not map a port by UPnP: .*606/)
    }).pipe(Effect.scoped)
  )

  it.effect("a UPnP router that talks nonsense is a refusal", () =>
    Effect.gen(function* () {
      const router = yield* upnp()
      const mapper = yield* mapperFor(undefined, router.url)
      for (const raw of ["", "<", "hello", "<a/>", "<s:Envelope/>"]) {
        router.behaviour = { ...router.behaviour, raw }
        assert.match(yield* refusal(mapper), /^Refused: /, JSON.stringify(raw))
      }
      const { raw: _, ...sane } = router.behaviour
      for (const outside of ["", "router.local", "198.51.100.256"]) {
        router.behaviour = { ...sane, outside }
        assert.match(yield* refusal(mapper), /^Refused: /, outside)
      }
      router.behaviour = { ...sane, outside: "198.51.100.78", portFor: () => Number.NaN }
      assert.match(yield* refusal(mapper), /makes no sense/)
    }).pipe(Effect.scoped)
  )
})

describe("DefaultRouter", () => {
  const table = (...routes: ReadonlyArray<string>) =>
    ["Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT", ...routes].join("\n")
  it("finds the default route with the lowest metric", () => {
    const routes = table(
      "eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
      "wlan0\t00000000\t0100000A\t0003\t0\t0\t600\t00000000\t0\t0\t0",
      "eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0",
      "eth1\t00000000\t0103A8C0\t0002\t0\t0\t1\t00000000\t0\t0\t0"
    )
    assert.strictEqual(DefaultRouter.ofRoutes(routes), "192.168.2.1")
  })
  it("finds none in tables without one, and in none", () => {
    for (const text of [
      "",
      "\n\n",
      table(),
      table("tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0"),
      "x y z"
    ]) {
      assert.isUndefined(DefaultRouter.ofRoutes(text))
    }
  })
})
