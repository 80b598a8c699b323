/**
 * Our talk with one TURN server: requests signed under long-term credentials, repeated until they are answered; challenges
 * answered here, so that the client hears of outcomes only.
 *
 * The answer to an unsigned request is believed for its transaction id (96 bits) and the server's address, when it is a
 * refusal; everything else must be signed under the password.
 */
import type { Address } from "./Address.ts"
import type { Parcel } from "./Carrier.ts"
import { LongTermAuth, type LongTermCredentials } from "./LongTermAuth.ts"
import type { Entropy } from "./Primitives.ts"
import * as Stun from "./StunMessage.ts"
import { type Request, StunRequests } from "./StunRequests.ts"
import { MAX_CHANNELS, MAX_PERMISSIONS } from "./TurnPeers.ts"
import * as TurnWriter from "./TurnWriter.ts"

type Purpose = TurnWriter.Purpose

/** Datagrams that wait to be sent: each request once, and a few datagrams of sessions. The oldest go first. */
const MAX_OUT = 64
/** 401 or 438 in a row. */
const MAX_CHALLENGES = 3
/** The allocation's own request, a refresh, permissions, channels. */
const MAX_REQUESTS = 2 + MAX_PERMISSIONS + MAX_CHANNELS

/** What became of a request. `Foreign`: the message answers none of ours; `Forged`, `Malformed`: as if it had not come. */
export type Outcome =
  | { readonly type: "Success"; readonly purpose: Purpose; readonly message: Stun.Message }
  | { readonly type: "Error"; readonly purpose: Purpose; readonly message: Stun.Message; readonly code: number }
  | { readonly type: "Challenged" | "Foreign" | "Forged" | "Malformed" }

const CHALLENGED: Outcome = { type: "Challenged" }
const FOREIGN: Outcome = { type: "Foreign" }
const FORGED: Outcome = { type: "Forged" }
const MALFORMED: Outcome = { type: "Malformed" }

export interface DialogueOptions {
  readonly server: Address
  readonly primitives: Stun.StunPrimitives
  readonly entropy: Entropy
  /** Of the relayed address. */
  readonly family?: 4 | 6 | undefined
}

export class TurnDialogue {
  readonly #options: DialogueOptions
  readonly #auth: LongTermAuth
  readonly #requests = new StunRequests<Purpose>(MAX_REQUESTS)
  readonly #out: Array<Parcel> = []
  #servers: readonly [Address]

  constructor(options: DialogueOptions, credentials: LongTermCredentials) {
    this.#options = options
    this.#servers = [options.server]
    this.#auth = new LongTermAuth(options.primitives, credentials)
  }

  get server(): Address {
    return this.#servers[0]
  }

  /** The same in a list. */
  get servers(): readonly [Address] {
    return this.#servers
  }

  /** Whether requests are signed: the server has told its realm. */
  get signs(): boolean {
    return this.#auth.ready
  }

  /** Whether nothing waits to be sent. */
  get isDrained(): boolean {
    return this.#out.length === 0
  }

  /** From now on with the server of the options and with these credentials. */
  begin(credentials: LongTermCredentials): void {
    this.#auth.use(credentials)
    if (this.server !== this.#options.server) this.redirect(this.#options.server)
  }

  /** From now on with another server, which will challenge us. */
  redirect(server: Address): void {
    this.#servers = [server]
    this.#auth.forget()
    this.#requests.clear()
  }

  ask(now: number, purpose: Purpose): void {
    this.#ask(now, purpose, 0)
  }

  /** Sends a request that nobody will wait for. */
  tell(purpose: Purpose, copies: number): void {
    const bytes = this.#build(purpose, this.#options.entropy(Stun.TRANSACTION_ID_LENGTH))
    for (let i = 0; i < copies; i++) this.send(bytes)
  }

  /** Queues a datagram for the server. */
  send(bytes: Uint8Array): void {
    if (this.#out.length >= MAX_OUT) this.#out.shift()
    this.#out.push({ bytes, remote: this.server })
  }

  poll(): Parcel | undefined {
    return this.#out.shift()
  }

  isAsking(type: Purpose["type"]): boolean {
    return this.#requests.some((purpose) => purpose.type === type)
  }

  isAskingFor(grant: object): boolean {
    return this.#requests.some(
      (purpose) =>
        (purpose.type === "Permission" && purpose.permission === grant) ||
        (purpose.type === "Channel" && purpose.channel === grant)
    )
  }

  /** Asks nothing any more; what waits to be sent leaves, unless `all` goes. */
  drop(what: "requests" | "all"): void {
    this.#requests.clear()
    if (what === "all") this.#out.length = 0
  }

  /** Forgets the key. */
  forget(): void {
    this.#auth.forget()
  }

  deadline(): number {
    return this.#requests.deadline()
  }

  /** Repeats what is due; a request that was repeated often enough is given up: its purpose. */
  handleTimeout(now: number): Purpose | undefined {
    for (let due = this.#requests.due(now); due !== undefined; due = this.#requests.due(now)) {
      if (due.over) return due.request.purpose
      this.send(due.request.bytes)
    }
    return undefined
  }

  /** A response from the server. */
  handleResponse(now: number, message: Stun.Message): Outcome {
    const request = this.#requests.find(message)
    if (request === undefined) return FOREIGN
    const code = message.class === "error" ? Stun.errorCode(message)?.code : undefined
    if (message.class === "error" && code === undefined) return MALFORMED
    const isChallenge = code === 401 || code === 438
    // A 441 comes from another user's allocation, and under that user's key.
    const isOthers = code === 441 && (request.purpose.type === "Allocate" || request.purpose.type === "Release")
    const believed = isChallenge || isOthers || (request.signed ? this.#auth.verify(message) : code !== undefined)
    if (!believed) return FORGED
    this.#requests.remove(request)
    if (code === undefined) return { type: "Success", purpose: request.purpose, message }
    if (isChallenge && this.#takesUp(request, message, code)) {
      this.#ask(now, request.purpose, request.challenges + 1)
      return CHALLENGED
    }
    return { type: "Error", purpose: request.purpose, message, code }
  }

  /** Whether another try under what the challenge says makes sense. */
  #takesUp(request: Request<Purpose>, message: Stun.Message, code: 401 | 438): boolean {
    if (request.challenges >= MAX_CHALLENGES) return false
    const challenge = this.#auth.challenge(message)
    // The same question to a signed request says that the answer was wrong.
    return challenge === "Fresh" || (challenge === "Same" && (code === 438 || !request.signed))
  }

  #ask(now: number, purpose: Purpose, challenges: number): void {
    const id = this.#options.entropy(Stun.TRANSACTION_ID_LENGTH)
    const bytes = this.#build(purpose, id)
    this.#requests.add(now, { purpose, id, bytes, signed: this.#auth.ready, challenges })
    this.send(bytes)
  }

  #build(purpose: Purpose, id: Uint8Array): Uint8Array {
    return TurnWriter.request(this.#auth, purpose, id, this.#options.family)
  }
}
