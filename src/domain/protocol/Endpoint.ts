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
import type { Entry, SeenNonce } from "./Admissions.ts"
import { CloseCode, type CloseReason } from "./CloseCode.ts"
import * as Compromise from "./Compromise.ts"
import {
  CONNECTION_ID_LENGTH,
  COURTESY_SESSIONS,
  HALF_OPEN_MS,
  INITIATION_LENGTH,
  MAX_BURST_DATAGRAMS,
  MAX_HALF_OPEN,
  MAX_SESSIONS_PER_CREDENTIAL,
  MAX_SESSIONS_PER_HOST,
  PADDING_BLOCK,
  SECRET_LENGTH
} from "./Constants.ts"
import type { Admission } from "./Credential.ts"
import { hex } from "./Cursor.ts"
import type { Deadline } from "./DeadlineHeap.ts"
import type { Attempt, DialOptions } from "./Dial.ts"
import { Dialler } from "./Dialler.ts"
import type { Caller, Drops, EndpointEvent, EndpointOptions, Handle, Notification } from "./EndpointTypes.ts"
import * as Envelope from "./Envelope.ts"
import { Gatekeeper } from "./Gatekeeper.ts"
import * as HandshakeMessage from "./HandshakeMessage.ts"
import { IdTable } from "./IdTable.ts"
import * as KeySchedule from "./KeySchedule.ts"
import type { Limits } from "./Limits.ts"
import type * as Noise from "./Noise.ts"
import type { DirectionSecrets } from "./PacketWriter.ts"
import { NONCE_LENGTH } from "./Primitives.ts"
import { Session } from "./Session.ts"
import { type Burst, NO_STATS, type Stats, type Transmit } from "./SessionTypes.ts"
import { type Slot, Slots } from "./Slots.ts"

/** Where a session's connection ids lead: known before the session is. */
interface Seat {
  readonly type: "session"
  slot: Slot | undefined
}

type Route = Seat | { readonly type: "attempt"; readonly dial: Handle; readonly attempt: Attempt }

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
  readonly #gatekeeper: Gatekeeper
  readonly #dialler: Dialler
  readonly #routes = new IdTable<Route>()
  readonly #slots = new Slots()
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
    const { primitives, entropy, identity } = options
    this.#gatekeeper = new Gatekeeper(now, primitives, identity)
    this.#dialler = new Dialler(primitives, entropy, {
      add: (id, dial, attempt) => this.#routes.add(id, { type: "attempt", dial, attempt }),
      delete: (id) => this.#routes.delete(id)
    })
  }

  /** Sessions, half-open ones included. */
  get sessions(): number {
    return this.#slots.size
  }

  /** Sessions in use whose path leads through that socket of ours, or that relay. */
  sessionsVia(via: number): number {
    return this.#slots.countUp(via)
  }

  /** Everything that grows with what arrives, for tests that nothing is left behind. */
  get held(): number {
    const handshakes = this.#gatekeeper.size + this.#dialler.size
    return this.#slots.size + this.#routes.size + handshakes + this.#events.length + this.#transmits.length
  }

  /** Hints and nonces on record: bounded by the credentials, whatever arrives. */
  get expected(): number {
    return this.#gatekeeper.expected
  }

  // -- the server's commands ---------------------------------------------------------------------------------------

  /** Follows the wall clock; to be called whenever the owner wakes. */
  setWall(now: number, wallMs: number): void {
    this.#wallOffset = wallMs - now
    this.#gatekeeper.advance(wallMs)
  }

  /**
   * Whom to expect from now on. Sessions of those who are not among them are closed as revoked: a revoked device's file
   * may be on the list still, so that whoever uses it is noticed, but no more with the device's key.
   */
  setAdmissions(now: number, admissions: ReadonlyArray<Admission>): void {
    this.#gatekeeper.set(now, now + this.#wallOffset, admissions)
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
    this.#gatekeeper.dropWhere(({ entry, noise }) => !admits(entry, noise.remoteStatic, false))
    for (const slot of this.#slots.all()) {
      if (slot.server === undefined || admits(slot.server.entry, slot.server.staticKey, slot.phase === "up")) continue
      if (slot.phase === "up") slot.session.close(now, CloseCode.Revoked, "this device was revoked")
      else slot.session.abandon()
      this.#slots.mark(slot)
    }
  }

  /** Nonces that an earlier process saw; after `setAdmissions`. */
  restoreNonces(seen: ReadonlyArray<SeenNonce>): void {
    this.#gatekeeper.restore(seen)
  }

  /** Answers an initiation whose nonce is on record. `enrolment` goes to a device that comes with a file. */
  admit(now: number, initiation: Handle, enrolment: HandshakeMessage.Enrolment | undefined): void {
    const pending = this.#gatekeeper.take(now, initiation)
    if (pending === undefined) return
    const { entry, noise, message, remote } = pending
    const { primitives, entropy, limits } = this.#options
    const localId = this.#freshId()
    const payload = HandshakeMessage.encodeAnswer({
      version: pending.version,
      connectionId: localId,
      observed: this.#options.facing?.(remote) ?? remote,
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
    const seat: Seat = { type: "session", slot: undefined }
    const session = this.#makeSession(now, "server", noise, seat, localId, message.connectionId, remote, message.limits)
    this.#seat(now, seat, {
      session,
      server: { entry, staticKey, connectId: hex(message.connectId) },
      dial: undefined,
      deviceName: message.deviceName,
      skewMs: Math.round(message.wallMs - (now + this.#wallOffset)),
      enrols: entry.admission.slot !== undefined,
      halfOpenUntil: now + HALF_OPEN_MS
    })
    this.#transmits.push({ bytes, remote })
  }

  /** Lets an initiation, or a session that waits to be established, fall in silence. */
  refuse(handle: Handle): void {
    this.#gatekeeper.drop(handle)
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
    this.#dialler.dial(now, handle, options)
    this.#runDials(now)
    return handle
  }

  /** More addresses that one of a dial's servers may have, best first. */
  widen(now: number, dial: Handle, invitation: number, endpoints: ReadonlyArray<Address>): void {
    this.#dialler.widen(dial, invitation, endpoints)
    this.#runDials(now)
  }

  /** Gives a dial up without an event. */
  hangUp(handle: Handle): void {
    this.#dialler.hangUp(handle)
  }

  /** What the answer brought is on disk: the session may speak. */
  confirm(now: number, handle: Handle): void {
    const slot = this.#slots.get(handle)
    if (slot === undefined) return
    slot.session.unmute(now)
    this.#slots.mark(slot)
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
    if (slot !== undefined) this.#slots.mark(slot)
  }

  /** Tells every session that the server will be at `port` in `inMs`. */
  announcePort(now: number, port: number, inMs: number): void {
    for (const slot of this.#slots.all()) {
      if (slot.phase !== "up") continue
      slot.session.announcePort(now, port, inMs)
      this.#slots.mark(slot)
    }
  }

  close(now: number, handle: Handle, code: number, reason: string): void {
    const slot = this.#slots.get(handle)
    if (slot === undefined) return
    slot.session.close(now, code, reason)
    this.#slots.mark(slot)
  }

  closeAll(now: number, code: number, reason: string): void {
    this.#dialler.hangUpAll()
    for (const slot of this.#slots.all()) this.close(now, slot.handle, code, reason)
  }

  /**
   * Forgets everything at once, keys first of all; what is left are sealed words for the peers of open sessions, but not
   * for `except`, who told us themselves. The endpoint is empty then and stays deaf and dumb.
   */
  compromise(except: ReadonlySet<Handle>): ReadonlyArray<Notification> {
    const { entropy, primitives } = this.#options
    const out: Array<Notification> = []
    for (const slot of [...this.#slots.all()]) {
      const token = entropy(SECRET_LENGTH)
      // A session that we dialled may speak before its peer has spoken.
      const speaks = slot.phase === "up" || slot.server === undefined
      const datagrams = speaks && !except.has(slot.handle) ? slot.session.sealCompromised(token) : []
      if (datagrams.length > 0) {
        out.push({ remote: slot.session.remote, datagrams, expected: Compromise.expected(primitives, token) })
      }
      token.fill(0)
      this.drop(slot.handle)
    }
    this.#dialler.hangUpAll()
    this.#gatekeeper.dropWhere(() => true)
    this.#gatekeeper.set(0, 0, [])
    this.#transmits.length = 0
    return out
  }

  /** Forgets a session without a word to its peer. */
  drop(handle: Handle): void {
    const slot = this.#slots.get(handle)
    if (slot === undefined) return
    const wasUp = slot.phase === "up" || slot.server === undefined
    const stats = slot.session.stats()
    slot.session.abandon()
    this.#remove(slot)
    if (wasUp) this.#events.push({ type: "Closed", session: handle, reason: GONE, stats })
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
        if (route.slot !== undefined) this.#toSession(now, route.slot, batch, from, i)
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
      this.#slots.mark(slot)
    }
    this.drops.unopened += session.unopened - unopened
    this.drops.replayed += session.replayed - replayed
  }

  handleTimeout(now: number): void {
    for (let slot = this.#slots.expired(now); slot !== undefined; slot = this.#slots.expired(now)) {
      if (slot.phase !== "up" && slot.server !== undefined && now >= slot.halfOpenUntil) {
        slot.session.abandon()
        this.#remove(slot)
      } else {
        // What follows from it is known when the session was drained.
        slot.session.handleTimeout(now)
        this.#slots.mark(slot)
      }
    }
    this.#gatekeeper.dropWhere(({ expiresAt }) => now >= expiresAt)
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
    for (let slot = this.#slots.next(); slot !== undefined; slot = this.#slots.next()) {
      const sent = poll(slot.session)
      this.#slots.done(sent)
      if (sent) return
      this.#collect(now, slot)
      this.#slots.schedule(slot)
    }
  }

  /** Only complete after `pollBurst` answered 0. */
  pollEvent(): EndpointEvent | undefined {
    return this.#events.shift()
  }

  pollTimeout(): number {
    return Math.min(this.#slots.deadline, this.#dialler.deadline, this.#gatekeeper.deadline)
  }

  // -- handshakes --------------------------------------------------------------------------------------------------

  #onInitiation(now: number, remote: Address, bytes: Uint8Array): void {
    const knock = this.#gatekeeper.knock(now, now + this.#wallOffset, remote, bytes)
    if (knock.type === "stranger") {
      this.drops.stranger++
      this.#events.push({ ...knock, type: "Stranger", remote })
      return
    }
    if (knock.type !== "pending") {
      this.drops[knock.type]++
      return
    }
    const { pending, seen, staticKey } = knock
    const { admission } = pending.entry
    if (!this.#makeRoom(admission, remote)) {
      this.drops.full++
      pending.noise.wipe()
      this.#events.push({ type: "Full", admission, remote })
      return
    }
    const initiation = this.#nextHandle++
    this.#gatekeeper.keep(initiation, pending)
    const { deviceName, wallMs } = pending.message
    this.#events.push({ type: "Initiation", initiation, admission, staticKey, seen, deviceName, wallMs, remote })
  }

  #onAnswer(now: number, remote: Address, bytes: Uint8Array, handle: Handle, attempt: Attempt): void {
    const answer = this.#dialler.onAnswer(handle, attempt, bytes)
    if (answer === "forged" || answer === "badHandshake") {
      this.drops[answer]++
      return
    }
    const localId = attempt.connectionId
    const { noise, sentAt } = attempt
    const { connectionId, limits } = answer
    const seat: Seat = { type: "session", slot: undefined }
    const handshakeMs = now - sentAt
    const session = this.#makeSession(now, "client", noise, seat, localId, connectionId, remote, limits, handshakeMs)
    this.hangUp(handle)
    const slot = this.#seat(now, seat, {
      session,
      server: undefined,
      dial: handle,
      deviceName: "",
      skewMs: 0,
      enrols: false,
      halfOpenUntil: Number.POSITIVE_INFINITY
    })
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
    seat: Seat,
    localId: Uint8Array,
    remoteId: Uint8Array,
    remote: Address,
    peerLimits: Limits,
    handshakeMs?: number
  ): Session {
    const { initiatorKey, responderKey } = noise.split()
    const chainingKey = noise.chainingKey
    noise.wipe()
    const client = this.#secrets(initiatorKey)
    const server = this.#secrets(responderKey)
    const { limits, primitives, entropy, congestion, windowGrowth, keepAliveMs, deadAfterMs } = this.#options
    const { askMs, datagramCeiling, home, rank, rekeyIntervalMs } = this.#options
    return new Session(now, {
      role,
      localId,
      remoteId,
      remote,
      send: role === "client" ? client : server,
      receive: role === "client" ? server : client,
      chainingKey,
      primitives,
      rekeyIntervalMs,
      askMs,
      rank,
      home,
      ids: {
        issue: () => {
          const id = this.#freshId()
          this.#routes.add(id, seat)
          return id
        },
        retire: (id) => this.#routes.delete(id)
      },
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

  /** Takes a session in, whose first id is routed to it from here on. */
  #seat(now: number, seat: Seat, about: Omit<Slot, keyof Deadline | "handle" | "phase" | "heardAt" | "dirty">): Slot {
    const slot: Slot = {
      ...about,
      handle: this.#nextHandle++,
      phase: "half-open",
      heardAt: now,
      dirty: false,
      deadline: Number.POSITIVE_INFINITY,
      heapIndex: -1
    }
    seat.slot = slot
    this.#slots.add(slot)
    for (const id of slot.session.localIds) this.#routes.add(id, seat)
    return slot
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
    const { fromHost, halfOpen, oldestOwn, open, own } = this.#slots.occupancy(remote.host, (entry) =>
      this.#gatekeeper.isOf(entry, admission)
    )
    if (own + this.#gatekeeper.countOf(admission) >= MAX_SESSIONS_PER_CREDENTIAL) {
      if (oldestOwn === undefined) return false
      oldestOwn.session.abandon()
      this.#remove(oldestOwn)
      return true
    }
    return (
      halfOpen + this.#gatekeeper.size < MAX_HALF_OPEN &&
      fromHost < MAX_SESSIONS_PER_HOST &&
      open < this.#options.maxSessions + COURTESY_SESSIONS
    )
  }

  /** A device has one session more: of too many, one that is over is forgotten, or the most silent one is closed. */
  #replace(now: number, slot: Slot, admission: Admission): void {
    const isOwn = (entry: Entry): boolean => this.#gatekeeper.isOf(entry, admission)
    const victim = this.#slots.mostSilent(slot, MAX_SESSIONS_PER_CREDENTIAL, isOwn)
    if (victim === undefined) return
    victim.session.close(now, CloseCode.Replaced, "a newer session of this device took its place")
    this.#slots.mark(victim)
    this.#remove(victim)
  }

  #runDials(now: number): void {
    const { failed, transmits } = this.#dialler.run(now, now + this.#wallOffset)
    for (const transmit of transmits) this.#transmits.push(transmit)
    for (const { dial, rounds } of failed) this.#events.push({ type: "DialFailed", dial, rounds })
  }

  // -- sessions ----------------------------------------------------------------------------------------------------

  /** Passes a session's events on, and forgets it when it is over. */
  #collect(now: number, slot: Slot): void {
    for (let event = slot.session.pollEvent(); event !== undefined; event = slot.session.pollEvent()) {
      if (event.type === "Closed") {
        // Of a client that has proved nothing, nobody was told.
        if (slot.server !== undefined && slot.phase === "half-open") continue
        this.#events.push({ type: "Closed", session: slot.handle, reason: event.reason, stats: slot.session.stats() })
      } else if (event.type === "Proven") this.#onProven(now, slot)
      else this.#events.push({ type: "Session", session: slot.handle, event })
    }
    if (slot.session.state === "closed") this.#remove(slot)
    else if (this.#slots.isGone(slot)) {
      // It had a last word to say, and has said it.
      slot.session.abandon()
      slot.session.wipe()
    }
  }

  #onProven(now: number, slot: Slot): void {
    const { server, handle } = slot
    if (server !== undefined) {
      for (const other of this.#slots.all()) {
        if (other === slot || other.phase !== "half-open" || other.server?.connectId !== server.connectId) continue
        other.session.abandon()
        this.#remove(other)
      }
      if (this.#slots.countUp() >= this.#options.maxSessions) {
        this.#turnAway(now, slot)
        return
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

  /** Somebody who belongs here hears why there is no room; nobody else learns that we exist. */
  #turnAway(now: number, slot: Slot): void {
    const caller = callerOf(slot)
    this.drops.full++
    if (caller !== undefined) {
      this.#events.push({ type: "Full", admission: caller.admission, remote: slot.session.remote })
    }
    slot.session.unmute(now)
    slot.session.close(now, CloseCode.Busy, "the server has as many sessions as it takes: try again later")
    this.#slots.mark(slot)
  }

  #up(now: number, slot: Slot): void {
    slot.phase = "up"
    if (slot.server !== undefined) this.#replace(now, slot, slot.server.entry.admission)
    slot.session.unmute(now)
    this.#events.push({ type: "Connected", session: slot.handle, caller: callerOf(slot) })
    this.#slots.mark(slot)
  }

  #remove(slot: Slot): void {
    this.#slots.delete(slot)
    for (const id of slot.session.localIds) this.#routes.delete(id)
    slot.session.wipe()
  }

  #freshId(): Uint8Array {
    for (;;) {
      const id = this.#options.entropy(CONNECTION_ID_LENGTH)
      if (this.#routes.get(id) === undefined) return id
    }
  }
}

const GONE: CloseReason = { by: "local", code: CloseCode.None, reason: "" }

/** Whether a datagram carries the connection id of another. */
const follows = ({ bytes, remote }: Transmit, other: Uint8Array): boolean => {
  if (bytes.length < CONNECTION_ID_LENGTH || remote.port === 0) return false
  for (let i = 0; i < CONNECTION_ID_LENGTH; i++) if (bytes[i] !== other[i]) return false
  return true
}

const callerOf = ({ server, deviceName, session, skewMs }: Slot): Caller | undefined =>
  server === undefined
    ? undefined
    : { admission: server.entry.admission, staticKey: server.staticKey, deviceName, remote: session.remote, skewMs }
