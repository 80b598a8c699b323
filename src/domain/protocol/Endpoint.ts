/**
 * Everything behind one UDP socket: who may come in, what is being dialled, and all sessions.
 *
 * Every datagram begins with 8 bytes that are looked up once: a session's connection id, the connection id of an attempt
 * of ours that awaits its answer, or the hint of a credential. What is in none of the tables leaves no trace but a counter.
 *
 * Sans-IO, as the Session: feed `handleDatagrams`, `handleTimeout` and commands, then drain `pollBurst`, `pollEvent` and
 * `pollTimeout`. `now` is a steady clock in ms; `wallMs` the time of day, which hints and expiry follow.
 *
 * Two steps wait for the owner, because something has to be on disk first:
 *
 *     server  Initiation  -> remember the nonce          -> admit | refuse     (the answer leaves)
 *     client  Answered    -> keep the enrolment          -> confirm            (the first transport packet leaves)
 *     server  Enrolling   -> commit enrolment and burn   -> establish | refuse (the first server packet leaves)
 */
import type { Address } from "./Address.ts"
import { Admissions, type Entry, type SeenNonce } from "./Admissions.ts"
import { CloseCode, type CloseReason } from "./CloseCode.ts"
import type * as Congestion from "./Congestion.ts"
import {
  CONNECTION_ID_LENGTH,
  HALF_OPEN_MS,
  INITIATION_LENGTH,
  MAX_BURST_DATAGRAMS,
  MAX_HALF_OPEN,
  MAX_SESSIONS_PER_CREDENTIAL,
  MAX_SESSIONS_PER_HOST,
  PADDING_BLOCK,
  SECRET_LENGTH,
  VERSION_MAX,
  VERSION_MIN
} from "./Constants.ts"
import type { Admission } from "./Credential.ts"
import { hex } from "./Cursor.ts"
import { type Deadline, DeadlineHeap } from "./DeadlineHeap.ts"
import { type Attempt, Dial, type DialOptions } from "./Dial.ts"
import * as Envelope from "./Envelope.ts"
import * as HandshakeMessage from "./HandshakeMessage.ts"
import { IdTable } from "./IdTable.ts"
import * as KeySchedule from "./KeySchedule.ts"
import type { Limits } from "./Limits.ts"
import * as Noise from "./Noise.ts"
import type { DirectionSecrets } from "./PacketWriter.ts"
import { type Entropy, type KeyPair, NONCE_LENGTH, type Primitives } from "./Primitives.ts"
import { type Burst, NO_STATS, Session, type SessionEvent, type Stats, type Transmit } from "./Session.ts"

export interface EndpointOptions {
  readonly primitives: Primitives
  readonly entropy: Entropy
  /** Our static key pair: whom clients reach, or who a client is. */
  readonly identity: KeyPair
  readonly limits: Limits
  /** How many times their first size receive windows may grow to; without it `WINDOW_GROWTH`. */
  readonly windowGrowth?: number | undefined
  readonly congestion: Congestion.Factory
  readonly keepAliveMs: number
  readonly deadAfterMs: number
  /** Sessions at a time, half-open ones included. */
  readonly maxSessions: number
  /** Bytes of the largest datagram worth trying towards an address; without it `MAX_DATAGRAM_LENGTH` for all. */
  readonly datagramCeiling?: ((remote: Address) => number) | undefined
}

/** Names a session, an initiation or a dial of this endpoint; never used twice. */
export type Handle = number

/** Somebody who opened an initiation with a live credential. */
export interface Caller {
  readonly admission: Admission
  readonly staticKey: Uint8Array
  /** As the device names itself. */
  readonly deviceName: string
  readonly remote: Address
}

export type EndpointEvent =
  | {
      readonly type: "Initiation"
      readonly initiation: Handle
      readonly admission: Admission
      readonly staticKey: Uint8Array
      readonly seen: SeenNonce
      readonly deviceName: string
      /** The client's clock, ms since 1970. */
      readonly wallMs: number
      readonly remote: Address
    }
  /** A file's first packet: its device is to be enrolled before it hears from us. */
  | ({ readonly type: "Enrolling"; readonly session: Handle } & Caller)
  | {
      readonly type: "Answered"
      readonly dial: Handle
      readonly session: Handle
      /** Which of the dial's invitations was taken. */
      readonly invitation: number
      readonly skewMs: number
      readonly observed: Address
      readonly remote: Address
      readonly enrolment: HandshakeMessage.Enrolment | undefined
    }
  | { readonly type: "DialFailed"; readonly dial: Handle; readonly rounds: number }
  /** Both sides know that the other holds the keys. */
  | {
      readonly type: "Connected"
      readonly session: Handle
      /** Absent for a session we dialled. */
      readonly caller: Caller | undefined
    }
  | { readonly type: "Session"; readonly session: Handle; readonly event: SessionEvent }
  | { readonly type: "Closed"; readonly session: Handle; readonly reason: CloseReason }
  /** Somebody holds a credential that is not theirs: a burnt file, or a device's psk without its key. */
  | {
      readonly type: "Stranger"
      readonly admission: Admission
      readonly staticKey: Uint8Array
      readonly remote: Address
    }
  | { readonly type: "Full"; readonly admission: Admission; readonly remote: Address }

/** Datagrams that led nowhere, by reason. */
export interface Drops {
  unknown: number
  forged: number
  repeated: number
  expired: number
  overBudget: number
  badHandshake: number
  stranger: number
  full: number
  unopened: number
  replayed: number
}

interface Pending {
  readonly entry: Entry
  readonly noise: Noise.Handshake
  readonly message: HandshakeMessage.Initiation
  readonly version: number
  readonly remote: Address
  readonly expiresAt: number
}

interface Slot extends Deadline {
  readonly handle: Handle
  readonly session: Session
  /** Absent for a session we dialled. */
  readonly server: { readonly entry: Entry; readonly staticKey: Uint8Array; readonly connectId: string } | undefined
  readonly dial: Handle | undefined
  readonly deviceName: string
  readonly enrols: boolean
  phase: "half-open" | "deciding" | "up"
  readonly halfOpenUntil: number
  heardAt: number
  dirty: boolean
}

type Route =
  | { readonly type: "session"; readonly slot: Slot }
  | { readonly type: "attempt"; readonly dial: Handle; readonly attempt: Attempt }

const PATTERN = Noise.pattern("IKpsk2") as Noise.Pattern

export class Endpoint {
  readonly drops: Drops = {
    unknown: 0,
    forged: 0,
    repeated: 0,
    expired: 0,
    overBudget: 0,
    badHandshake: 0,
    stranger: 0,
    full: 0,
    unopened: 0,
    replayed: 0
  }
  readonly #options: EndpointOptions
  readonly #admissions: Admissions
  readonly #routes = new IdTable<Route>()
  readonly #slots = new Map<Handle, Slot>()
  readonly #dials = new Map<Handle, Dial>()
  readonly #pending = new Map<Handle, Pending>()
  readonly #dirty: Array<Slot> = []
  readonly #deadlines = new DeadlineHeap<Slot>()
  readonly #transmits: Array<Transmit> = []
  readonly #events: Array<EndpointEvent> = []
  readonly #single: Array<Transmit> = []
  /** Of the last `pollBurst` that answered bytes. */
  burst: Burst = { remote: { host: "", port: 0 }, segment: 0 }
  #nextHandle = 1
  #wallOffset: number

  constructor(now: number, wallMs: number, options: EndpointOptions) {
    this.#options = options
    this.#wallOffset = wallMs - now
    this.#admissions = new Admissions(now, options.primitives)
  }

  /** Sessions, half-open ones included. */
  get sessions(): number {
    return this.#slots.size
  }

  /** Everything that grows with what arrives, for tests that nothing is left behind. */
  get held(): number {
    const handshakes = this.#pending.size + this.#dials.size
    return this.#slots.size + this.#routes.size + handshakes + this.#events.length + this.#transmits.length
  }

  /** Hints and nonces on record: bounded by the credentials, whatever arrives. */
  get expected(): number {
    return this.#admissions.size + this.#admissions.nonces
  }

  // -- the server's commands ---------------------------------------------------------------------------------------

  /** Follows the wall clock; to be called whenever the owner wakes. */
  setWall(now: number, wallMs: number): void {
    this.#wallOffset = wallMs - now
    this.#admissions.advance(wallMs)
  }

  /**
   * Whom to expect from now on. Sessions of those who are not among them are closed as revoked: a revoked device's file
   * may be on the list still, so that whoever uses it is noticed, but no more with the device's key.
   */
  setAdmissions(now: number, admissions: ReadonlyArray<Admission>): void {
    this.#admissions.set(now, now + this.#wallOffset, admissions)
    const { equal } = this.#options.primitives
    const listed = new Map<string, Array<Admission>>()
    for (const admission of admissions) {
      const id = hex(admission.id)
      listed.set(id, [...(listed.get(id) ?? []), admission])
    }
    const admits = ({ admission }: Entry, staticKey: Uint8Array | undefined, up: boolean): boolean => {
      const those = listed.get(hex(admission.id)) ?? []
      // Who comes with a file and is not up yet is for the enrolment to judge.
      if (admission.slot !== undefined && !up) return those.length > 0
      return those.some(
        (one) => one.staticKey === undefined || (staticKey !== undefined && equal(one.staticKey, staticKey))
      )
    }
    for (const [handle, { entry, noise }] of this.#pending) {
      if (!admits(entry, noise.remoteStatic, false)) this.refuse(handle)
    }
    for (const slot of this.#slots.values()) {
      if (slot.server === undefined || admits(slot.server.entry, slot.server.staticKey, slot.phase === "up")) continue
      if (slot.phase === "up") slot.session.close(now, CloseCode.Revoked, "this device was revoked")
      else slot.session.abandon()
      this.#mark(slot)
    }
  }

  /** Nonces that an earlier process saw; after `setAdmissions`. */
  restoreNonces(seen: ReadonlyArray<SeenNonce>): void {
    this.#admissions.restore(seen)
  }

  /** Answers an initiation whose nonce is on record. `enrolment` goes to a device that comes with a file. */
  admit(now: number, initiation: Handle, enrolment: HandshakeMessage.Enrolment | undefined): void {
    const pending = this.#pending.get(initiation)
    this.#pending.delete(initiation)
    if (pending === undefined || now >= pending.expiresAt) return
    const { entry, noise, message, remote } = pending
    const { primitives, entropy, limits } = this.#options
    const localId = this.#freshId()
    const payload = HandshakeMessage.encodeAnswer({
      version: pending.version,
      connectionId: localId,
      observed: remote,
      limits,
      enrolment
    })
    const staticKey = noise.remoteStatic
    const answer = noise.writeMessage(payload, primitives.keyPair(entropy(SECRET_LENGTH)))
    if (answer === undefined || staticKey === undefined) {
      this.drops.badHandshake++
      return
    }
    const bytes = Envelope.sealAnswer(entry.answerKey, message.connectionId, entropy(NONCE_LENGTH), answer)
    const session = this.#makeSession(now, "server", noise, localId, message.connectionId, remote, message.limits)
    const slot: Slot = {
      handle: this.#nextHandle++,
      session,
      server: { entry, staticKey, connectId: hex(message.connectId) },
      dial: undefined,
      deviceName: message.deviceName,
      enrols: entry.admission.slot !== undefined,
      phase: "half-open",
      halfOpenUntil: now + HALF_OPEN_MS,
      heardAt: now,
      dirty: false,
      deadline: Number.POSITIVE_INFINITY,
      heapIndex: -1
    }
    this.#slots.set(slot.handle, slot)
    this.#routes.add(localId, { type: "session", slot })
    this.#schedule(slot)
    this.#transmits.push({ bytes, remote })
  }

  /** Lets an initiation, or a session that waits to be established, fall in silence. */
  refuse(handle: Handle): void {
    const pending = this.#pending.get(handle)
    if (pending !== undefined) {
      pending.noise.wipe()
      this.#pending.delete(handle)
    }
    const slot = this.#slots.get(handle)
    if (slot !== undefined && slot.phase !== "up") {
      slot.session.abandon()
      this.#remove(slot)
    }
  }

  /** The enrolment is committed: the session may speak. */
  establish(now: number, handle: Handle): void {
    const slot = this.#slots.get(handle)
    // The client may have closed it meanwhile.
    if (slot !== undefined && slot.phase === "deciding" && slot.session.state === "muted") this.#up(now, slot)
  }

  // -- the client's commands ---------------------------------------------------------------------------------------

  dial(now: number, options: DialOptions): Handle {
    const handle = this.#nextHandle++
    this.#dials.set(handle, new Dial(now, this.#options.primitives, this.#options.entropy, options))
    this.#runDials(now)
    return handle
  }

  /** Gives a dial up without an event. */
  hangUp(handle: Handle): void {
    const dial = this.#dials.get(handle)
    if (dial === undefined) return
    this.#dials.delete(handle)
    for (const attempt of dial.attempts) this.#routes.delete(attempt.connectionId)
    dial.end()
  }

  /** What the answer brought is on disk: the session may speak. */
  confirm(now: number, handle: Handle): void {
    const slot = this.#slots.get(handle)
    if (slot === undefined) return
    slot.session.unmute(now)
    this.#mark(slot)
  }

  // -- both --------------------------------------------------------------------------------------------------------

  /** The session for commands and reading; `undefined` once it is over. Call `touch` after commands. */
  session(handle: Handle): Session | undefined {
    return this.#slots.get(handle)?.session
  }

  /** Zeros once the session is over. */
  stats(handle: Handle): Stats {
    return this.session(handle)?.stats() ?? NO_STATS
  }

  /** A session was given something to do. */
  touch(handle: Handle): void {
    const slot = this.#slots.get(handle)
    if (slot !== undefined) this.#mark(slot)
  }

  close(now: number, handle: Handle, code: number, reason: string): void {
    const slot = this.#slots.get(handle)
    if (slot === undefined) return
    slot.session.close(now, code, reason)
    this.#mark(slot)
  }

  closeAll(now: number, code: number, reason: string): void {
    for (const dial of [...this.#dials.keys()]) this.hangUp(dial)
    for (const slot of this.#slots.values()) this.close(now, slot.handle, code, reason)
  }

  // -- input -------------------------------------------------------------------------------------------------------

  /** One datagram; it is opened where it lies. */
  handleDatagram(now: number, remote: Address, bytes: Uint8Array): void {
    this.#single[0] = { bytes, remote }
    this.handleDatagrams(now, this.#single)
  }

  /** Datagrams that came together; they are opened where they lie and may be kept. */
  handleDatagrams(now: number, batch: ReadonlyArray<Transmit>): void {
    for (let i = 0; i < batch.length; ) {
      const { bytes, remote } = batch[i] as Transmit
      i++
      // Nothing can be sent to port 0: who claims it wants no answer.
      if (bytes.length < CONNECTION_ID_LENGTH || bytes.length % PADDING_BLOCK !== 0 || remote.port === 0) {
        this.drops.unknown++
        continue
      }
      const route = this.#routes.get(bytes)
      if (route === undefined) {
        this.#onUnknown(now, remote, bytes)
      } else if (route.type === "attempt") this.#onAnswer(now, remote, bytes, route.dial, route.attempt)
      else {
        const from = i - 1
        while (i < batch.length && i - from < MAX_BURST_DATAGRAMS && follows(batch[i] as Transmit, bytes)) i++
        this.#toSession(now, route.slot, batch, from, i)
      }
    }
  }

  /** Initiations, of which the kernel may have joined several: they share no id by which a socket could part them. */
  #onUnknown(now: number, remote: Address, bytes: Uint8Array): void {
    if (bytes.length === 0 || bytes.length % INITIATION_LENGTH !== 0) {
      this.drops.unknown++
      return
    }
    for (let at = 0; at < bytes.length; at += INITIATION_LENGTH) {
      this.#onInitiation(now, remote, bytes.subarray(at, at + INITIATION_LENGTH))
    }
  }

  #toSession(now: number, slot: Slot, batch: ReadonlyArray<Transmit>, from: number, to: number): void {
    const { session } = slot
    const { unopened, replayed } = session
    if (session.handleDatagrams(now, batch, from, to) > 0) {
      slot.heardAt = now
      this.#mark(slot)
    }
    this.drops.unopened += session.unopened - unopened
    this.drops.replayed += session.replayed - replayed
  }

  handleTimeout(now: number): void {
    for (let slot = this.#deadlines.expired(now); slot !== undefined; slot = this.#deadlines.expired(now)) {
      if (slot.phase !== "up" && slot.server !== undefined && now >= slot.halfOpenUntil) {
        slot.session.abandon()
        this.#remove(slot)
      } else {
        // What follows from it is known when the session was drained; until then it has no deadline.
        this.#deadlines.set(slot, Number.POSITIVE_INFINITY)
        slot.session.handleTimeout(now)
        this.#mark(slot)
      }
    }
    for (const [handle, pending] of this.#pending) if (now >= pending.expiresAt) this.refuse(handle)
    this.#runDials(now)
  }

  // -- output ------------------------------------------------------------------------------------------------------

  /** The next datagram, in a buffer of its own: for owners that send one at a time. */
  pollTransmit(now: number): Transmit | undefined {
    const queued = this.#transmits.shift()
    if (queued !== undefined) return queued
    let transmit: Transmit | undefined
    this.#pollSessions(now, (session) => {
      transmit = session.pollTransmit(now)
      return transmit !== undefined
    })
    return transmit
  }

  /**
   * Writes the next datagrams into `buffer` from `start` on, where there is room for 64 KiB: all go to one address and have
   * `burst.segment` bytes but the last, which may be shorter. Answers how many bytes; 0 when nobody has anything to send.
   */
  pollBurst(now: number, buffer: Uint8Array, start: number): number {
    const queued = this.#transmits.shift()
    if (queued !== undefined) {
      buffer.set(queued.bytes, start)
      this.burst = { remote: queued.remote, segment: queued.bytes.length }
      return queued.bytes.length
    }
    let length = 0
    this.#pollSessions(now, (session) => {
      length = session.pollBurst(now, buffer, start)
      this.burst = session.burst
      return length > 0
    })
    return length
  }

  /** Asks the sessions that may want to send, in turns, until one does. */
  #pollSessions(now: number, poll: (session: Session) => boolean): void {
    while (this.#dirty.length > 0) {
      const slot = this.#dirty[0] as Slot
      const sent = poll(slot.session)
      this.#dirty.shift()
      if (sent) {
        this.#dirty.push(slot)
        return
      }
      slot.dirty = false
      this.#collect(now, slot)
      this.#schedule(slot)
    }
  }

  /** Only complete after `pollBurst` answered 0. */
  pollEvent(): EndpointEvent | undefined {
    return this.#events.shift()
  }

  pollTimeout(): number {
    let earliest = this.#deadlines.earliest
    for (const dial of this.#dials.values()) if (dial.deadline < earliest) earliest = dial.deadline
    for (const pending of this.#pending.values()) if (pending.expiresAt < earliest) earliest = pending.expiresAt
    return earliest
  }

  // -- handshakes --------------------------------------------------------------------------------------------------

  #onInitiation(now: number, remote: Address, bytes: Uint8Array): void {
    const opened = this.#admissions.open(now, now + this.#wallOffset, bytes)
    if (opened.type !== "opened") {
      this.drops[opened.type === "over-budget" ? "overBudget" : opened.type]++
      return
    }
    const { entry, seen } = opened
    const { admission } = entry
    const { primitives, identity } = this.#options
    const noise = new Noise.Handshake(primitives, {
      pattern: PATTERN,
      initiator: false,
      prologue: KeySchedule.prologue(admission.id),
      local: identity,
      psks: [admission.psk]
    })
    const payload = noise.readMessage(opened.message)
    const staticKey = noise.remoteStatic
    const message = payload === undefined ? undefined : HandshakeMessage.decodeInitiation(payload)
    if (
      message === undefined ||
      staticKey === undefined ||
      message.versionMin > VERSION_MAX ||
      message.versionMax < VERSION_MIN
    ) {
      this.drops.badHandshake++
      noise.wipe()
      return
    }
    if (admission.staticKey !== undefined && !primitives.equal(admission.staticKey, staticKey)) {
      this.drops.stranger++
      noise.wipe()
      this.#events.push({ type: "Stranger", admission, staticKey, remote })
      return
    }
    if (!this.#makeRoom(admission, remote)) {
      this.drops.full++
      noise.wipe()
      this.#events.push({ type: "Full", admission, remote })
      return
    }
    const initiation = this.#nextHandle++
    const version = Math.min(message.versionMax, VERSION_MAX)
    this.#pending.set(initiation, { entry, noise, message, version, remote, expiresAt: now + HALF_OPEN_MS })
    const { deviceName, wallMs } = message
    this.#events.push({ type: "Initiation", initiation, admission, staticKey, seen, deviceName, wallMs, remote })
  }

  #onAnswer(now: number, remote: Address, bytes: Uint8Array, handle: Handle, attempt: Attempt): void {
    const dial = this.#dials.get(handle)
    const opened = dial === undefined ? undefined : Envelope.open(attempt.answerKey, "answer", bytes)
    if (dial === undefined || opened === undefined) {
      this.drops.forged++
      return
    }
    const payload = attempt.noise.readMessage(opened.message)
    const answer = payload === undefined ? undefined : HandshakeMessage.decodeAnswer(payload)
    if (answer === undefined || answer.version < VERSION_MIN || answer.version > VERSION_MAX) {
      this.drops.badHandshake++
      return
    }
    dial.onAnswered(attempt)
    const localId = attempt.connectionId
    const { noise, sentAt } = attempt
    const { connectionId, limits } = answer
    const session = this.#makeSession(now, "client", noise, localId, connectionId, remote, limits, now - sentAt)
    this.hangUp(handle)
    const slot: Slot = {
      handle: this.#nextHandle++,
      session,
      server: undefined,
      dial: handle,
      deviceName: "",
      enrols: false,
      phase: "half-open",
      halfOpenUntil: Number.POSITIVE_INFINITY,
      heardAt: now,
      dirty: false,
      deadline: Number.POSITIVE_INFINITY,
      heapIndex: -1
    }
    this.#slots.set(slot.handle, slot)
    this.#routes.add(localId, { type: "session", slot })
    this.#schedule(slot)
    const { observed, enrolment } = answer
    const { invitation, skewMs } = attempt
    this.#events.push({
      type: "Answered",
      dial: handle,
      session: slot.handle,
      invitation,
      skewMs,
      observed,
      remote,
      enrolment
    })
  }

  #makeSession(
    now: number,
    role: "client" | "server",
    noise: Noise.Handshake,
    localId: Uint8Array,
    remoteId: Uint8Array,
    remote: Address,
    peerLimits: Limits,
    handshakeMs?: number
  ): Session {
    const { initiatorKey, responderKey } = noise.split()
    noise.wipe()
    const client = this.#secrets(initiatorKey)
    const server = this.#secrets(responderKey)
    const { limits, entropy, congestion, windowGrowth, keepAliveMs, deadAfterMs, datagramCeiling } = this.#options
    return new Session(now, {
      role,
      localId,
      remoteId,
      remote,
      send: role === "client" ? client : server,
      receive: role === "client" ? server : client,
      limits,
      peerLimits,
      entropy,
      congestion,
      keepAliveMs,
      deadAfterMs,
      handshakeMs,
      windowGrowth,
      datagramCeiling
    })
  }

  #secrets(key: Uint8Array): DirectionSecrets {
    const { primitives } = this.#options
    const traffic = KeySchedule.trafficKeys(primitives, key)
    const headerKey = KeySchedule.headerKey(primitives, key)
    const secrets = {
      header: primitives.maskKey(headerKey),
      keys: { packet: primitives.packetKey(traffic.aead), iv: traffic.iv }
    }
    for (const bytes of [key, traffic.aead, headerKey]) bytes.fill(0)
    return secrets
  }

  /** Keeps the caps of what is not proven yet: a device with too many half-open sessions loses the oldest of them. */
  #makeRoom(admission: Admission, remote: Address): boolean {
    let halfOpen = this.#pending.size
    let fromHost = 0
    let open = 0
    let own = 0
    let oldest: Slot | undefined
    for (const { entry } of this.#pending.values()) if (this.#isOf(entry, admission)) own++
    for (const slot of this.#slots.values()) {
      // What is only waiting to be forgotten takes nobody's place.
      if (isOver(slot)) continue
      open++
      if (slot.session.remote.host === remote.host) fromHost++
      if (slot.phase === "up") continue
      halfOpen++
      if (slot.server === undefined || !this.#isOf(slot.server.entry, admission)) continue
      own++
      oldest ??= slot
    }
    if (own >= MAX_SESSIONS_PER_CREDENTIAL) {
      if (oldest === undefined) return false
      oldest.session.abandon()
      this.#remove(oldest)
      return true
    }
    return halfOpen < MAX_HALF_OPEN && fromHost < MAX_SESSIONS_PER_HOST && open < this.#options.maxSessions
  }

  /** A device has one session more: of too many, one that is over is forgotten, or the most silent one is closed. */
  #replace(now: number, slot: Slot, admission: Admission): void {
    let count = 0
    let victim: Slot | undefined
    for (const other of this.#slots.values()) {
      if (other === slot || other.phase !== "up") continue
      if (other.server === undefined || !this.#isOf(other.server.entry, admission)) continue
      count++
      if (victim === undefined || silence(other) < silence(victim)) victim = other
    }
    if (victim === undefined || count < MAX_SESSIONS_PER_CREDENTIAL) return
    victim.session.close(now, CloseCode.Replaced, "a newer session of this device took its place")
    this.#mark(victim)
    this.#remove(victim)
  }

  #isOf(entry: Entry, admission: Admission): boolean {
    return this.#options.primitives.equal(entry.admission.id, admission.id)
  }

  #runDials(now: number): void {
    for (const [handle, dial] of this.#dials) {
      if (dial.expired(now)) {
        this.#events.push({ type: "DialFailed", dial: handle, rounds: dial.rounds })
        this.hangUp(handle)
        continue
      }
      for (const attempt of dial.expire(now)) this.#routes.delete(attempt.connectionId)
      for (const attempt of dial.due(now, now + this.#wallOffset)) {
        this.#routes.add(attempt.connectionId, { type: "attempt", dial: handle, attempt })
        this.#transmits.push({ bytes: attempt.datagram, remote: attempt.remote })
      }
    }
  }

  // -- sessions ----------------------------------------------------------------------------------------------------

  /** Passes a session's events on, and forgets it when it is over. */
  #collect(now: number, slot: Slot): void {
    for (let event = slot.session.pollEvent(); event !== undefined; event = slot.session.pollEvent()) {
      if (event.type === "Closed") {
        // Of a client that has proved nothing, nobody was told.
        if (slot.server !== undefined && slot.phase === "half-open") continue
        this.#events.push({ type: "Closed", session: slot.handle, reason: event.reason })
      } else if (event.type === "Proven") this.#onProven(now, slot)
      else this.#events.push({ type: "Session", session: slot.handle, event })
    }
    if (slot.session.state === "closed") this.#remove(slot)
  }

  #onProven(now: number, slot: Slot): void {
    const { server, handle } = slot
    if (server !== undefined) {
      for (const other of this.#slots.values()) {
        if (other === slot || other.phase !== "half-open" || other.server?.connectId !== server.connectId) continue
        other.session.abandon()
        this.#remove(other)
      }
      if (slot.enrols) {
        slot.phase = "deciding"
        const caller = callerOf(slot)
        if (caller !== undefined) this.#events.push({ type: "Enrolling", session: handle, ...caller })
        return
      }
    }
    this.#up(now, slot)
  }

  #up(now: number, slot: Slot): void {
    slot.phase = "up"
    if (slot.server !== undefined) this.#replace(now, slot, slot.server.entry.admission)
    slot.session.unmute(now)
    this.#events.push({ type: "Connected", session: slot.handle, caller: callerOf(slot) })
    this.#mark(slot)
  }

  #mark(slot: Slot): void {
    if (slot.dirty) return
    slot.dirty = true
    this.#dirty.push(slot)
  }

  /** Takes note of when a session wants to be woken. */
  #schedule(slot: Slot): void {
    if (!this.#slots.has(slot.handle)) return
    const halfOpen = slot.phase !== "up" && slot.server !== undefined
    const at = slot.session.pollTimeout()
    this.#deadlines.set(slot, halfOpen ? Math.min(at, slot.halfOpenUntil) : at)
  }

  #remove(slot: Slot): void {
    this.#deadlines.set(slot, Number.POSITIVE_INFINITY)
    this.#slots.delete(slot.handle)
    this.#routes.delete(slot.session.localId)
    slot.session.wipe()
  }

  #freshId(): Uint8Array {
    for (;;) {
      const id = this.#options.entropy(CONNECTION_ID_LENGTH)
      if (this.#routes.get(id) === undefined) return id
    }
  }
}

/** Whether a datagram carries the connection id of another. */
const follows = ({ bytes, remote }: Transmit, other: Uint8Array): boolean => {
  if (bytes.length < CONNECTION_ID_LENGTH || remote.port === 0) return false
  for (let i = 0; i < CONNECTION_ID_LENGTH; i++) if (bytes[i] !== other[i]) return false
  return true
}

/** Closed by one side and only remembered for stragglers. */
const isOver = ({ session }: Slot): boolean => session.state === "closing" || session.state === "draining"

/** When it was last heard; sessions that are over come before all others. */
const silence = ({ session, heardAt }: Slot): number => (session.state === "open" ? heardAt : Number.NEGATIVE_INFINITY)

const callerOf = ({ server, deviceName, session }: Slot): Caller | undefined =>
  server === undefined
    ? undefined
    : { admission: server.entry.admission, staticKey: server.staticKey, deviceName, remote: session.remote }
