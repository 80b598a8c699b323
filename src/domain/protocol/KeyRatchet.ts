/**
 * Key rotation within a session: a Diffie-Hellman ratchet of two frames, REKEY and REKEY_ACK, after which whoever holds an
 * older state of the session and only listens reads nothing more. Sans-IO: `now` in ms, nothing is sent from here.
 *
 *     asker     idle -> asked -> switched: seals in n + 1, opens n and n + 1 -> heard the peer in n + 1: grace -> idle
 *     answerer  idle -> answered: seals in n, opens n and n + 1 -> heard the peer in n + 1: seals in it, grace -> idle
 *
 * Either side may ask. Where both ask for the same epoch the server drops its question and answers the client's. Nobody asks
 * while keys of two epochs are held, and a question that comes within the grace is answered at its end; so the 2 bits of a
 * packet's epoch are never in doubt, and a rotation costs the peer at least three probe timeouts.
 *
 * Both frames name the full epoch and travel in the one before it. They are repeated until something else proves that they
 * arrived; what is out of date is ignored, so loss, repetition and reordering harm nothing. Private ephemeral keys and
 * chaining keys are overwritten as soon as the next chaining key exists, the old packet keys at the end of the grace.
 */
import { MAX_EPOCH, MAX_KEY_PACKETS, REKEY_BYTES, REKEY_INTERVAL_MS, REKEY_JITTER, REKEY_PACKETS } from "./Constants.ts"
import type * as Frame from "./Frame.ts"
import * as KeySchedule from "./KeySchedule.ts"
import type { DirectionKeys } from "./Packet.ts"
import { type Entropy, KEY_LENGTH, type KeyPair, type Primitives } from "./Primitives.ts"

export interface KeyRatchetOptions {
  readonly role: "client" | "server"
  readonly primitives: Primitives
  readonly entropy: Entropy
  /** Of the finished handshake. Taken over: it is overwritten. */
  readonly chainingKey: Uint8Array
  /** Of epoch 0. Taken over as well. */
  readonly send: DirectionKeys
  readonly receive: DirectionKeys
  /** Milliseconds between rotations, drawn within `REKEY_JITTER`; `Infinity` for never. Without it `REKEY_INTERVAL_MS`. */
  readonly intervalMs?: number | undefined
  /** Packets, and bytes, sealed under one key after which it is replaced; without them `REKEY_PACKETS`, `REKEY_BYTES`. */
  readonly packets?: number | undefined
  readonly bytes?: number | undefined
}

/** Where an exchange stands; "switched" is an asker who seals in the new epoch and has not heard the peer in it. */
type Stage = "idle" | "asked" | "answered" | "switched"

const NEVER = Number.POSITIVE_INFINITY

const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i])

const wipeKeys = ({ packet, iv }: DirectionKeys): void => {
  packet.wipe()
  iv.fill(0)
}

export class KeyRatchet {
  /** The epoch in which we seal, and its keys. */
  epoch = 0
  send: DirectionKeys
  /** Keys to open with, by epoch mod 4: of the newest epoch, of the one before within its grace, of the next once derived. */
  readonly receive: Array<DirectionKeys | undefined> = [undefined, undefined, undefined, undefined]
  /** Of the newest epoch in which the peer was heard. */
  heardBits = 0
  /** A rotation is due: `begin` it when nothing stands against it. */
  wanted = false
  /** Sums of packets and bytes sealed at which `onWorn` is to be called. */
  packetMark: number
  byteMark: number

  readonly #options: KeyRatchetOptions
  readonly #intervalMs: number
  #chainingKey: Uint8Array
  #stage: Stage = "idle"
  #heard = 0
  /** The first packet number opened in the newest epoch: the peer's last of the one before is lower. */
  #heardFrom = 0
  /** Of an exchange under way: the asker's private key, the question that was answered, the answerer's next keys. */
  #private: Uint8Array | undefined
  #question: Uint8Array | undefined
  #next: DirectionKeys | undefined
  #frame: Frame.Rekey | Frame.RekeyAck | undefined
  #frameDue = false
  /** A question that came within the grace. */
  #waiting: Uint8Array | undefined
  #graceUntil = NEVER
  #rotateAt = NEVER
  #drawn = false
  #spentAt: number

  constructor(now: number, options: KeyRatchetOptions) {
    this.#options = options
    this.#intervalMs = options.intervalMs ?? REKEY_INTERVAL_MS
    this.#chainingKey = options.chainingKey
    this.send = options.send
    this.receive[0] = options.receive
    this.packetMark = 0
    this.byteMark = 0
    this.#spentAt = 0
    this.restart(0, 0)
    this.#schedule(now)
  }

  /** Whether no exchange is under way and keys of one epoch only are held. */
  get idle(): boolean {
    return this.#stage === "idle" && this.#graceUntil === NEVER
  }

  /** Whether `pollFrame` has something. */
  get due(): boolean {
    return this.#frameDue
  }

  /** When to call `onTimeout`; `Infinity` for never. */
  get deadline(): number {
    return Math.min(this.#graceUntil, this.#rotateAt)
  }

  // -- when to rotate ----------------------------------------------------------------------------------------------

  /** A new key is wanted, for whatever reason; one that is on its way will do. */
  request(): void {
    if (this.#stage === "idle" && this.epoch < MAX_EPOCH) this.wanted = true
  }

  /** We seal under a new key from here on; sums of all packets and bytes sealed so far. */
  restart(sealedPackets: number, sealedBytes: number): void {
    this.packetMark = sealedPackets + (this.#options.packets ?? REKEY_PACKETS)
    this.byteMark = sealedBytes + (this.#options.bytes ?? REKEY_BYTES)
    this.#spentAt = sealedPackets + MAX_KEY_PACKETS
  }

  /** A mark is reached: asks for a new key, and later answers "spent", when this key must seal nothing more. */
  onWorn(sealedPackets: number): "worn" | "spent" {
    this.packetMark = this.#spentAt
    this.byteMark = NEVER
    this.request()
    return sealedPackets >= this.#spentAt ? "spent" : "worn"
  }

  /** Ends the grace, asks for a new key when it is time. "protocol" for a question that waited and holds no fit key. */
  onTimeout(now: number): "protocol" | undefined {
    if (now >= this.#rotateAt) {
      // Drawn as late as it can be: most sessions are over before.
      if (!this.#drawn) this.#rotateAt += 2 * REKEY_JITTER * this.#intervalMs * this.#chance()
      this.#drawn = true
      if (now >= this.#rotateAt) {
        this.#rotateAt = NEVER
        this.request()
      }
    }
    return now >= this.#graceUntil ? this.#endGrace() : undefined
  }

  // -- the exchange ------------------------------------------------------------------------------------------------

  /** Asks for the next epoch, where one is `wanted` and nothing stands against it here. */
  begin(): void {
    if (!this.wanted || !this.idle) return
    this.wanted = false
    this.#rotateAt = NEVER
    const { privateKey, publicKey } = this.#ephemeral()
    this.#private = privateKey
    this.#stage = "asked"
    this.#offer({ type: "Rekey", epoch: this.epoch + 1, key: publicKey })
  }

  /** The next frame to send, in a packet of the present epoch; `undefined` when nothing is due. */
  pollFrame(): Frame.Rekey | Frame.RekeyAck | undefined {
    if (!this.#frameDue) return undefined
    this.#frameDue = false
    return this.#frame
  }

  /** A packet with this frame may be lost: it is sent again, unless it is out of date. */
  onLost(frame: Frame.Frame): void {
    if (frame === this.#frame) this.#frameDue = true
  }

  /** The peer asks, in a packet of the epoch with these bits. */
  onRekey(frame: Frame.Rekey, bits: number): "protocol" | undefined {
    const { epoch, key } = frame
    if (((epoch - 1) & 3) !== bits || epoch > this.epoch + 1) return "protocol"
    if (epoch <= this.epoch) return undefined
    if (this.#stage === "answered") {
      if (this.#question === undefined || !same(this.#question, key)) return "protocol"
      this.#frameDue = true
      return undefined
    }
    // Crossed: the server yields.
    if (this.#stage === "asked" && this.#options.role === "client") return undefined
    if (this.#graceUntil !== NEVER) {
      if (this.#waiting !== undefined && !same(this.#waiting, key)) return "protocol"
      this.#waiting ??= key.slice()
      return undefined
    }
    return this.#answer(key.slice())
  }

  /** The peer answers. "switched": `epoch` and `send` are new, and the peer is to see a packet of them soon. */
  onRekeyAck(frame: Frame.RekeyAck, bits: number): "protocol" | "switched" | undefined {
    const { epoch, key } = frame
    if (((epoch - 1) & 3) !== bits || epoch > this.epoch + 1) return "protocol"
    if (epoch <= this.epoch) return undefined
    if (this.#stage !== "asked" || this.#private === undefined || this.#frame === undefined) return "protocol"
    const next = this.#derive(this.#private, key, this.#frame.key, key)
    this.#private = undefined
    if (next === undefined) return "protocol"
    this.#settle("switched")
    this.#seal(next)
    return "switched"
  }

  /**
   * A packet opened under keys of another epoch than the newest heard. "moved": the peer seals in the next one, and so do we
   * from here on; the one before opens for `graceMs` more. "late": within the grace. "forged": the peer had left
   * that epoch before this number, so somebody else holds its keys.
   */
  onOpened(now: number, bits: number, packetNumber: number, graceMs: number): "moved" | "late" | "forged" {
    if (bits !== ((this.#heard + 1) & 3)) return packetNumber < this.#heardFrom ? "late" : "forged"
    this.#heard++
    this.heardBits = bits
    this.#heardFrom = packetNumber
    if (this.#next !== undefined) this.#seal(this.#next)
    this.#next = undefined
    this.#settle("idle")
    this.#graceUntil = now + graceMs
    this.#schedule(now)
    return "moved"
  }

  /** Overwrites every secret; not to be used afterwards. */
  wipe(): void {
    this.#settle("idle")
    this.wanted = false
    this.#waiting = undefined
    this.#graceUntil = NEVER
    this.#rotateAt = NEVER
    this.#chainingKey.fill(0)
    wipeKeys(this.send)
    if (this.#next !== undefined) wipeKeys(this.#next)
    this.#next = undefined
    for (let bits = 0; bits < this.receive.length; bits++) this.#forget(bits)
  }

  // -- inside ------------------------------------------------------------------------------------------------------

  #answer(question: Uint8Array): "protocol" | undefined {
    const { privateKey, publicKey } = this.#ephemeral()
    const next = this.#derive(privateKey, question, question, publicKey)
    if (next === undefined) return "protocol"
    this.#settle("answered")
    this.wanted = false
    this.#rotateAt = NEVER
    this.#question = question
    this.#next = next
    this.#offer({ type: "RekeyAck", epoch: this.epoch + 1, key: publicKey })
    return undefined
  }

  #ephemeral(): KeyPair {
    const { primitives, entropy } = this.#options
    const chosen = entropy(KEY_LENGTH)
    const pair = primitives.keyPair(chosen)
    if (pair.privateKey !== chosen) chosen.fill(0)
    return pair
  }

  /** Steps the chain, opens the next epoch to the peer and answers our own keys of it. Overwrites `privateKey`. */
  #derive(privateKey: Uint8Array, publicKey: Uint8Array, e1: Uint8Array, e2: Uint8Array): DirectionKeys | undefined {
    const { primitives, role } = this.#options
    const dh = primitives.dh(privateKey, publicKey)
    privateKey.fill(0)
    if (dh === undefined) return undefined
    const epoch = this.epoch + 1
    const next = KeySchedule.ratchet(primitives, this.#chainingKey, dh, epoch, e1, e2)
    dh.fill(0)
    this.#chainingKey.fill(0)
    this.#chainingKey = next.chainingKey
    const client = this.#keys(next.initiatorKey)
    const server = this.#keys(next.responderKey)
    this.#forget(epoch & 3)
    this.receive[epoch & 3] = role === "client" ? server : client
    return role === "client" ? client : server
  }

  /** Overwrites `key`. */
  #keys(key: Uint8Array): DirectionKeys {
    const { primitives } = this.#options
    const { aead, iv } = KeySchedule.trafficKeys(primitives, key)
    const packet = primitives.packetKey(aead)
    aead.fill(0)
    key.fill(0)
    return { packet, iv }
  }

  /** Nothing is sealed in the old epoch any more. */
  #seal(keys: DirectionKeys): void {
    wipeKeys(this.send)
    this.send = keys
    this.epoch++
  }

  #offer(frame: Frame.Rekey | Frame.RekeyAck): void {
    this.#frame = frame
    this.#frameDue = true
  }

  /** Leaves what the last stage needed behind. */
  #settle(stage: Stage): void {
    this.#stage = stage
    this.#private?.fill(0)
    this.#private = undefined
    this.#question = undefined
    this.#frame = undefined
    this.#frameDue = false
  }

  #endGrace(): "protocol" | undefined {
    this.#graceUntil = NEVER
    this.#forget((this.#heard - 1) & 3)
    const question = this.#waiting
    this.#waiting = undefined
    return question === undefined ? undefined : this.#answer(question)
  }

  #forget(bits: number): void {
    const keys = this.receive[bits]
    if (keys !== undefined) wipeKeys(keys)
    this.receive[bits] = undefined
  }

  #schedule(now: number): void {
    this.#drawn = false
    this.#rotateAt = this.epoch < MAX_EPOCH ? now + (1 - REKEY_JITTER) * this.#intervalMs : NEVER
  }

  /** A number in [0, 1). */
  #chance(): number {
    const [high = 0, low = 0] = this.#options.entropy(2)
    return ((high << 8) | low) / 2 ** 16
  }
}
