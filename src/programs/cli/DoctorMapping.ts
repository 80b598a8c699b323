/** `clawchat doctor`, the router's part: whether it would forward a server's port. Nothing is mapped for that. */
import * as Effect from "effect/Effect"
import { hostKind } from "../../domain/protocol/HostKind.ts"
import * as PortMapperNode from "../../layers/PortMapperNode.ts"
import { PortMapper, type Router } from "../../services/PortMapper.ts"
import { type Finding, ok, warn } from "./Finding.ts"

const found = ({ outside, protocol, router }: Router): Finding => {
  const who = `the router ${router} speaks ${protocol}`
  if (outside === undefined) return ok("port mapping", who)
  if (hostKind(outside) === "public") return ok("port mapping", `${who}; outside it is ${outside}`)
  return warn(
    "port mapping",
    `${who}, but is ${outside} outside, which is no address of the internet: another NAT stands before it`
  )
}

/** Takes some seconds where no router answers. */
export const look = PortMapper.use((mapper) => mapper.look).pipe(
  Effect.map(found),
  Effect.catch(({ message }) => Effect.succeed(ok("port mapping", `none: ${message}`))),
  Effect.provide(PortMapperNode.layer)
)
