/** `clawchat llm`: the tier that holds the assistant. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as HomePaths from "../../domain/HomePaths.ts"
import { format } from "../../domain/protocol/Address.ts"
import * as ControlSocketNode from "../../layers/ControlSocketNode.ts"
import * as LogNode from "../../layers/LogNode.ts"
import { LlmProvider } from "../../services/LlmProvider.ts"
import * as Burn from "../Burn.ts"
import * as Control from "../Control.ts"
import * as ControlSocket from "../ControlSocket.ts"
import * as LlmTier from "../LlmTier.ts"
import * as Common from "./Common.ts"
import { failed, usage } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as LlmServices from "./LlmServices.ts"
import * as Output from "./Output.ts"
import { giveWay } from "./Succession.ts"

export interface Input extends Common.Globals {
  readonly provider: Option.Option<string>
  readonly model: Option.Option<string>
  readonly baseUrl: Option.Option<string>
  readonly contextDir: Option.Option<string>
  readonly basePath: Option.Option<string>
  readonly logFile: Option.Option<string>
}

export const run = Effect.fnUntraced(
  function* (input: Input) {
    const values = yield* Common.settings("llm", {
      ...Common.globalFlags(input),
      provider: Option.getOrUndefined(input.provider),
      model: Option.getOrUndefined(input.model),
      "base-url": Option.getOrUndefined(input.baseUrl),
      "context-dir": Option.getOrUndefined(input.contextDir),
      "base-path": Option.getOrUndefined(input.basePath),
      "log-file": Option.getOrUndefined(input.logFile)
    })
    const paths = HomePaths.llm(values.home)
    yield* Common.lock(paths.lock, "An llm tier", Burn.llm(paths))
    const logging = LogNode.layer({ ...values.logging, stderr: true })
    const services = LlmServices.layer(values, paths, Common.VERSION)

    const serve = Effect.gen(function* () {
      const tier = yield* LlmTier.make({
        paths,
        version: Common.VERSION,
        pid: process.pid,
        bind: { host: values.llm.host, port: values.llm.port }
      })
      const socket = yield* Layer.build(ControlSocketNode.layerServer(paths.control))
      const control = ControlSocket.serve(Control.layerLlm(tier.status))
      yield* Effect.forkScoped(Effect.provideContext(control, socket))
      yield* LlmServices.serveCron
      const { chosen, model, provider } = (yield* LlmProvider).info
      yield* Output.line(`Listening on UDP ${format(tier.address)}`)
      yield* Output.note(`Assistant: ${provider}, model ${model} (${chosen})`)
      return yield* tier.run
    })
    return yield* serve.pipe(Effect.provide(services), Effect.provide(logging))
  },
  Effect.catchTag("Burned", giveWay("llm tier")),
  Effect.scoped,
  Effect.catchTags({
    TransportError: (error) => Effect.fail(failed(error.message)),
    SecureFileError: (error) => Effect.fail(failed(error.message)),
    SocketServerError: (error) => Effect.fail(failed(`The control socket could not be opened: ${error.message}`)),
    IdentityError: (error) => Effect.fail(failed(error.message)),
    BurnError: (error) => Effect.fail(failed(error.message)),
    LlmError: (error) => Effect.fail(usage(error.message)),
    ContextStoreError: (error) => Effect.fail(failed(error.message)),
    ConversationsError: (error) => Effect.fail(failed(error.message)),
    FilesError: (error) => Effect.fail(failed(error.message))
  }),
  Effect.provide(Layers.network)
)
