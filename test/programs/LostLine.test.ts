import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as RpcClientError from "effect/rpc/RpcClientError"
import * as Schema from "effect/Schema"
import * as Socket from "effect/socket/Socket"
import { ControlError } from "../../src/domain/ControlRpc.ts"
import * as Tier from "../../src/programs/cli/Tier.ts"
import * as LostLine from "../../src/programs/LostLine.ts"
import { TransportError } from "../../src/services/Transport.ts"

const read = new Socket.SocketReadError({ cause: new Error("ECONNRESET") })
const lost = new RpcClientError.RpcClientError({ reason: read })
const strange = new RpcClientError.RpcClientError({
  reason: new RpcClientError.RpcClientDefect({ message: "Expected string, got 1", cause: "x" })
})

describe("LostLine", () => {
  it("knows the errors and defects of the stock RPC client, and no other", () => {
    const socket = new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause: "x" }) })
    const transport = new TransportError({ reason: "Closed", message: "closed" })
    for (const error of [lost, read, socket, transport]) assert.strictEqual(LostLine.sentence(error), LostLine.LOST)
    assert.strictEqual(LostLine.sentence(strange), LostLine.NOT_UNDERSTOOD)
    // An answer of another shape.
    const misfit = Effect.runSync(Effect.flip(Schema.decodeUnknownEffect(Schema.Int)("x")))
    assert.strictEqual(LostLine.sentence(misfit), LostLine.NOT_UNDERSTOOD)
    for (const other of [new Error("x"), "x", undefined, new ControlError({ reason: "Denied", message: "no" })]) {
      assert.strictEqual(LostLine.sentence(other), undefined)
    }
  })

  it("commands end with that sentence and a code that says whether to try again", () => {
    const code = (error: Parameters<typeof Tier.controlFailure>[0]) => {
      const { code, message } = Tier.controlFailure(error)
      return [code, message]
    }
    assert.deepStrictEqual(code(lost), [69, LostLine.LOST])
    assert.deepStrictEqual(code(strange), [1, LostLine.NOT_UNDERSTOOD])
    assert.deepStrictEqual(code(new ControlError({ reason: "Denied", message: "no" })), [4, "no"])
  })
})
