/**
 * The control socket of a running tier: a Unix socket in a 0700 folder, itself 0600. Paths of such sockets hold about a
 * hundred bytes; a longer one is reached through the folder's descriptor where /proc gives one.
 */
import * as Fs from "node:fs"
import { basename, dirname } from "node:path"
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as Folders from "./Folders.ts"

/** Bytes of a path that fit `sun_path` everywhere (104 on macOS, 108 on Linux, with the final zero). */
const MAX_PATH_BYTES = 103

/** The path to hand to the system for the scope. */
const reachable = Effect.fnUntraced(function* (path: string) {
  if (Buffer.byteLength(path) <= MAX_PATH_BYTES || !Fs.existsSync("/proc/self/fd")) return path
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.openSync(dirname(path), "r")),
    (descriptor) => Effect.sync(() => Fs.closeSync(descriptor))
  )
  return `/proc/self/fd/${folder}/${basename(path)}`
})

/** Listens; what a crash left at the path is removed first: the tier's lock makes sure that nobody listens there. */
export const layerServer = (path: string): Layer.Layer<SocketServer.SocketServer, SocketServer.SocketServerError> =>
  Layer.effect(
    SocketServer.SocketServer,
    Effect.gen(function* () {
      Folders.make(dirname(path))
      Fs.rmSync(path, { force: true })
      const server = yield* NodeSocketServer.make({ path: yield* reachable(path) })
      Fs.chmodSync(path, 0o600)
      yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(path, { force: true })))
      return server
    })
  )

/** Connects to a tier that runs. */
export const layerClient = (path: string): Layer.Layer<Socket.Socket, Socket.SocketError> =>
  Layer.unwrap(Effect.map(reachable(path), (short) => NodeSocket.layerNet({ path: short })))
