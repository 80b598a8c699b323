/**
 * A peer with valid credentials and no manners: it shakes hands as the protocol says and then sends whatever frames it
 * likes, in packets of its own making. It acknowledges what it gets unless told not to.
 */
import { randomBytes } from "node:crypto"
import type { Socket } from "node:dgram"
import * as Effect from "effect/Effect"
import { AckTracker } from "../../src/domain/protocol/AckTracker.ts"
import type { Invitation } from "../../src/domain/protocol/Credential.ts"
import { concat, Writer } from "../../src/domain/protocol/Cursor.ts"
import * as Envelope from "../../src/domain/protocol/Envelope.ts"
import * as Frame from "../../src/domain/protocol/Frame.ts"
import * as HandshakeMessage from "../../src/domain/protocol/HandshakeMessage.ts"
import * as KeySchedule from "../../src/domain/protocol/KeySchedule.ts"
import type { Limits } from "../../src/domain/protocol/Limits.ts"
import * as Noise from "../../src/domain/protocol/Noise.ts"
import * as Packet from "../../src/domain/protocol/Packet.ts"
import type { KeyPair } from "../../src/domain/protocol/Primitives.ts"
import * as Handshake from "../../src/domain/protocol/SealedHandshake.ts"
import * as Sealed from "../../src/domain/protocol/SealedStream.ts"
import * as StreamHeader from "../../src/domain/StreamHeader.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import * as Packets from "../protocol/Packets.ts"
import { identityOf, udp } from "./Tiers.ts"

const LOOPBACK = "127.0.0.1"
const CAPACITY = 1200 - Packet.OVERHEAD

/** What the attacker says it takes: everything. */
const GREEDY: Limits = {
  maxData: 2 ** 40,
  maxStreamData: 2 ** 40,
  maxStreams: 65_536,
  idleTimeoutMs: 60_000,
  maxDatagram: 65_507
}

/** Bytes of a first flight: an initiation that the server would answer. */
export const initiation = (options: {
  readonly invitation: Invitation
  readonly identity: KeyPair
  readonly hint: number
  readonly limits?: Limits
}) => {
  const { hint, identity, invitation, limits = GREEDY } = options
  const keys = KeySchedule.envelopeKeys(primitives, invitation.psk)
  const connectionId = Uint8Array.from(randomBytes(8))
  const pattern = Noise.pattern("IKpsk2")
  if (pattern === undefined) throw new Error("no pattern")
  const noise = new Noise.Handshake(primitives, {
    pattern,
    initiator: true,
    prologue: KeySchedule.prologue(invitation.id),
    local: identity,
    remote: invitation.serverKey,
    psks: [invitation.psk]
  })
  const payload = HandshakeMessage.encodeInitiation({
    wallMs: Date.now(),
    versionMin: 1,
    versionMax: 1,
    connectionId,
    connectId: Uint8Array.from(randomBytes(8)),
    deviceName: "mallory",
    features: 0,
    limits
  })
  const message = noise.writeMessage(payload, primitives.keyPair(Uint8Array.from(randomBytes(32))))
  if (message === undefined) throw new Error("the server's key is unfit")
  const slot = invitation.slot ?? KeySchedule.slotOf(Date.now())
  const datagram = Envelope.sealInitiation(
    primitives.aeadKey(keys.initiation),
    KeySchedule.hint(primitives, invitation.psk, slot, hint),
    Uint8Array.from(randomBytes(12)),
    message
  )
  return { datagram, noise, connectionId, answerKey: primitives.aeadKey(keys.answer) }
}

const secretsOf = (key: Uint8Array) => {
  const traffic = KeySchedule.trafficKeys(primitives, key)
  return {
    header: primitives.maskKey(KeySchedule.headerKey(primitives, key)),
    keys: { packet: primitives.packetKey(traffic.aead), iv: traffic.iv }
  }
}

/** What came on one stream, in order, as far as it goes without a gap. */
class Received {
  text = ""
  /** The first bytes, as many as were asked for. */
  head: Uint8Array = new Uint8Array(0)
  #wanted: number
  /** Opens what comes behind the head. */
  unsealer: Sealed.Unsealer | undefined
  #offset = 0
  readonly #ahead = new Map<number, Uint8Array>()
  readonly #decoder = new TextDecoder()

  constructor(wanted = 0) {
    this.#wanted = wanted
  }

  #append(data: Uint8Array): void {
    const rest = data.subarray(this.#wanted - this.head.length)
    if (this.head.length < this.#wanted)
      this.head = concat(this.head, data.subarray(0, this.#wanted - this.head.length))
    if (this.unsealer === undefined) {
      this.text += this.#decoder.decode(rest, { stream: true })
      return
    }
    this.unsealer.push(rest.slice())
    for (let pulled = this.unsealer.pull(); pulled.type === "Data"; pulled = this.unsealer.pull()) {
      this.text += this.#decoder.decode(pulled.bytes, { stream: true })
    }
  }

  take(offset: number, data: Uint8Array): void {
    if (offset > this.#offset) this.#ahead.set(offset, data)
    else if (offset + data.length > this.#offset) {
      this.#append(data.subarray(this.#offset - offset))
      this.#offset = offset + data.length
    }
    const next = this.#ahead.get(this.#offset)
    if (next === undefined) return
    this.#ahead.delete(this.#offset)
    this.take(this.#offset, next)
  }
}

export class Attacker {
  readonly socket: Socket
  /** Why the server closed the session. */
  closeCode: number | undefined
  /** Streams that the server gave up. */
  readonly reset = new Set<number>()
  readonly stopped = new Set<number>()
  /** What the server takes. */
  maxData = 16 * 1024 * 1024
  maxStreams = 64
  readonly maxStreamData = new Map<number, number>()
  /** What the server wrote, if it is wanted. */
  readonly streams = new Map<number, Received>()
  keep = true
  readonly #written = new Map<number, number>()
  readonly #port: number
  readonly #localId: Uint8Array
  readonly #remoteId: Uint8Array
  readonly #sealer: Packets.Sealer
  readonly #opener: Packets.Opener
  readonly #send: ReturnType<typeof secretsOf>
  readonly #receive: ReturnType<typeof secretsOf>
  readonly #acks = new AckTracker()
  readonly #waiting = new Set<() => void>()
  readonly #responses = new Set<string>()
  #next = 0

  constructor(
    socket: Socket,
    port: number,
    localId: Uint8Array,
    remoteId: Uint8Array,
    keys: { readonly initiatorKey: Uint8Array; readonly responderKey: Uint8Array }
  ) {
    this.socket = socket
    this.#port = port
    this.#localId = localId
    this.#remoteId = remoteId
    this.#send = secretsOf(keys.initiatorKey)
    this.#receive = secretsOf(keys.responderKey)
    this.#sealer = new Packets.Sealer(this.#send.header)
    this.#opener = new Packets.Opener(this.#receive.header)
    socket.on("message", (bytes) => this.#onMessage(Uint8Array.from(bytes)))
  }

  get localId(): Uint8Array {
    return this.#localId
  }

  /** What the server knows this session by. */
  get remoteId(): Uint8Array {
    return this.#remoteId
  }

  #onMessage(bytes: Uint8Array): void {
    const header = this.#opener.header(bytes)
    const plaintext = header === undefined ? undefined : this.#opener.open(this.#receive.keys, bytes)
    const frames = plaintext === undefined ? undefined : Frame.decode(plaintext)
    if (header === undefined || frames === undefined) return
    for (const frame of frames) this.#onFrame(frame)
    this.#acks.onReceived(0, header.packetNumber, frames.some(Frame.isAckEliciting), true)
    if (this.#acks.due(0)) {
      const frame = this.#acks.frame(0)
      this.#acks.onAckSent(0, this.#acks.largest)
      this.send(frame)
    }
    for (const wake of [...this.#waiting]) wake()
  }

  #onFrame(frame: Frame.Frame): void {
    switch (frame.type) {
      case "Stream": {
        if (!this.keep) return
        const received = this.streams.get(frame.id) ?? new Received()
        this.streams.set(frame.id, received)
        received.take(frame.offset, frame.data.slice())
        return
      }
      case "MaxData":
        this.maxData = Math.max(this.maxData, frame.limit)
        return
      case "MaxStreams":
        this.maxStreams = Math.max(this.maxStreams, frame.limit)
        return
      case "MaxStreamData":
        this.maxStreamData.set(frame.id, Math.max(this.maxStreamData.get(frame.id) ?? 0, frame.limit))
        return
      case "PathResponse":
        this.#responses.add(Buffer.from(frame.token).toString("hex"))
        return
      case "Reset":
        this.reset.add(frame.id)
        return
      case "Stop":
        this.stopped.add(frame.id)
        return
      case "Close":
        this.closeCode = frame.code
        return
    }
  }

  /** The datagram that carries the frames. */
  packet(...frames: ReadonlyArray<Frame.Frame>): Uint8Array {
    const writer = new Writer(new Uint8Array(CAPACITY))
    for (const frame of frames) Frame.encode(writer, frame)
    return this.plaintext(writer.bytes.subarray(0, writer.offset))
  }

  /** The datagram that carries these bytes, frames or not, and zeros up to the next 16. */
  plaintext(bytes: Uint8Array): Uint8Array {
    const padded = new Uint8Array(Math.max(16, Math.ceil(bytes.length / 16) * 16))
    padded.set(bytes)
    return this.#sealer.seal(this.#send.keys, 0, this.#remoteId, this.#next++, padded)
  }

  send(...frames: ReadonlyArray<Frame.Frame>): void {
    this.socket.send(this.packet(...frames), this.#port, LOOPBACK)
  }

  raw(datagram: Uint8Array): void {
    this.socket.send(datagram, this.#port, LOOPBACK)
  }

  /** Waits until things are as wanted. */
  until(what: string, wanted: () => boolean): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const look = () => {
        if (wanted()) resume(Effect.void)
      }
      this.#waiting.add(look)
      look()
      return Effect.sync(() => this.#waiting.delete(look))
    }).pipe(
      Effect.timeoutOrElse({
        duration: "20 seconds",
        orElse: () => Effect.die(new Error(`the attacker waits in vain: ${what}`))
      })
    )
  }

  /** The server closed the session. */
  readonly closed: Effect.Effect<void> = Effect.suspend(() => this.until("a CLOSE", () => this.closeCode !== undefined))

  /** A round trip below all streams: everything sent before has been taken in, or the session is over. */
  readonly flush: Effect.Effect<void> = Effect.suspend(() => {
    const token = Uint8Array.from(randomBytes(8))
    const key = Buffer.from(token).toString("hex")
    this.send({ type: "PathChallenge", token })
    return this.until("a PATH_RESPONSE", () => this.closeCode !== undefined || this.#responses.delete(key))
  })

  /** A stream's text so far. */
  text(id: number): string {
    return this.streams.get(id)?.text ?? ""
  }

  /**
   * Writes as much as the server takes of what `more` gives, until it gives nothing or the server gives the stream or the
   * session up; answers how many bytes that were.
   */
  pour(id: number, from: number, more: () => Uint8Array | undefined): Effect.Effect<number> {
    const over = () => this.closeCode !== undefined || this.stopped.has(id)
    const room = (offset: number) => Math.min(this.maxStreamData.get(id) ?? 8 * 1024 * 1024, this.maxData) - offset
    const self = this
    return Effect.gen(function* () {
      let offset = from
      let pending = 0
      for (let chunk = more(); chunk !== undefined; chunk = more()) {
        for (let at = 0; at < chunk.length; ) {
          if (over()) return offset
          for (let asked = 0; room(offset) <= 0; asked++) {
            // Nothing more is taken: ask a few times, then give in.
            if (asked === 20 || over()) return offset
            yield* self.flush
          }
          const part = chunk.subarray(at, at + Math.min(room(offset), 32 * 1100))
          offset = self.write(id, offset, part)
          at += part.length
          pending += part.length
          if (pending >= 32 * 1100) {
            pending = 0
            yield* self.flush
          }
        }
      }
      yield* self.flush
      return offset
    })
  }

  /** Opens a stream to the llm tier that continues a session; what is then to be written goes through what this gives. */
  resume(
    id: number,
    session: Handshake.Session,
    number: number
  ): { offset: number; seal: (bytes: Uint8Array) => Uint8Array } {
    const { clientKey, tierKey } = Handshake.streamKeys(primitives, session, number)
    const received = new Received()
    received.unsealer = new Sealed.Unsealer(primitives, tierKey)
    this.streams.set(id, received)
    const sealer = new Sealed.Sealer(primitives, clientKey, 0)
    const offset = this.write(id, 0, concat(StreamHeader.llm(), Handshake.resumption(session, number)))
    return { offset, seal: (bytes) => sealer.seal(0, bytes) }
  }

  /** A session with the llm tier, made on stream `id`, which is then as after `resume`. */
  sealed(id: number, home: string) {
    const self = this
    return Effect.gen(function* () {
      const identity = yield* identityOf(home)
      const status = yield* Effect.orDie(identity.status)
      const server = status._tag === "Enrolled" ? status.server : undefined
      if (server?.llmKey === undefined) return yield* Effect.die(new Error("not paired, or without the llm tier's key"))
      const header = StreamHeader.llm()
      const initiator = new Handshake.Initiator(primitives, {
        device: server.credentialId,
        header,
        identity: identity.keyPair,
        tierKey: server.llmKey,
        ephemeral: primitives.keyPair(Uint8Array.from(randomBytes(32)))
      })
      const received = new Received(Handshake.MESSAGE_2_LENGTH)
      self.streams.set(id, received)
      const offset = self.write(id, 0, concat(header, initiator.opening ?? header))
      yield* self.until("the llm tier's handshake", () => received.head.length === Handshake.MESSAGE_2_LENGTH)
      const session = initiator.finish(received.head)
      if (session === undefined) return yield* Effect.die(new Error("the llm tier's handshake does not open"))
      const { clientKey, tierKey } = Handshake.streamKeys(primitives, session, 0)
      received.unsealer = new Sealed.Unsealer(primitives, tierKey)
      const sealer = new Sealed.Sealer(primitives, clientKey, 0)
      return { session, offset, seal: (bytes: Uint8Array) => sealer.seal(0, bytes) }
    })
  }

  /** How far a stream was written. */
  written(id: number): number {
    return this.#written.get(id) ?? 0
  }

  /** Writes to a stream from an offset on, in full packets; answers the offset behind it. */
  write(id: number, offset: number, bytes: Uint8Array, fin = false): number {
    const room = 1100
    this.#written.set(id, offset + bytes.length)
    for (let at = 0; at < bytes.length || (at === 0 && fin); at += room) {
      const data = bytes.subarray(at, at + room)
      this.send({ type: "Stream", id, offset: offset + at, data, fin: fin && at + room >= bytes.length })
    }
    return offset + bytes.length
  }
}

const hints = new Map<string, number>()

/** A session with the llm tier that any connection of the device may continue. */
export const sealedSession = Effect.fnUntraced(function* (home: string, port: number) {
  const attacker = yield* attack(home, port)
  const { offset, seal, session } = yield* attacker.sealed(0, home)
  attacker.write(0, offset, seal(new TextEncoder().encode('{"_tag":"Ping"}\n')))
  yield* attacker.until("a Pong", () => attacker.text(0).includes("Pong"))
  return session
})

/** A session of a paired device's, made by hand. */
export const attack = Effect.fnUntraced(function* (home: string, port: number, limits: Limits = GREEDY) {
  const identity = yield* identityOf(home)
  const invitation = (yield* Effect.orDie(identity.invitations))[0]
  if (invitation === undefined) return yield* Effect.die(new Error("not paired"))
  const socket = yield* udp()
  const hint = hints.get(home) ?? 8
  hints.set(home, hint + 1)
  const made = initiation({ invitation, identity: identity.keyPair, hint, limits })
  const answer = Effect.callback<Uint8Array>((resume) => {
    socket.once("message", (bytes) => resume(Effect.succeed(Uint8Array.from(bytes))))
    socket.send(made.datagram, port, LOOPBACK)
  })
  const bytes = yield* Effect.timeoutOrElse(answer, {
    duration: "10 seconds",
    orElse: () => Effect.die(new Error("no answer to the attacker's initiation"))
  })
  const opened = Envelope.open(made.answerKey, "answer", bytes)
  const payload = opened === undefined ? undefined : made.noise.readMessage(opened.message)
  const message = payload === undefined ? undefined : HandshakeMessage.decodeAnswer(payload)
  if (message === undefined) return yield* Effect.die(new Error("an answer that does not open"))
  const attacker = new Attacker(socket, port, made.connectionId, message.connectionId, made.noise.split())
  attacker.send({ type: "Ping" })
  yield* attacker.flush
  return attacker
})
