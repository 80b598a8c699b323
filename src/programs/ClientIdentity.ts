/**
 * Who a client is and whom it may call. Everything stands in files and is read when it is asked for, so several
 * processes on one home agree and a process that dies leaves one of these states, each of which leads on:
 *
 *     on disk                              what works
 *     static key                           the `.sec` file, with this key
 *     static key, pending                  the device's secret if the server has committed, else the file's secret, which
 *                                          still admits this key until it expires
 *     static key, pending, server (same)   the device; pending is leftover and removed at the next start
 *     static key, server                   the device
 *
 * The steps: `make` writes the static key before the first initiation. The handshake's answer brings the enrolment;
 * `persist` writes it as pending before the first transport packet, which is what makes the server commit. The server's
 * first packet proves that it has; `confirm` writes the server's record, then removes pending.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Bytes from "../domain/Bytes.ts"
import * as CredentialFile from "../domain/CredentialFile.ts"
import * as HomePaths from "../domain/HomePaths.ts"
import * as Address from "../domain/protocol/Address.ts"
import * as Constants from "../domain/protocol/Constants.ts"
import type { Invitation } from "../domain/protocol/Credential.ts"
import { fromHex, hex, text, utf8 } from "../domain/protocol/Cursor.ts"
import type { Enrolment } from "../domain/protocol/HandshakeMessage.ts"
import type { HintState } from "../domain/protocol/HintCounter.ts"
import * as KeySchedule from "../domain/protocol/KeySchedule.ts"
import * as PortSchedule from "../domain/protocol/PortSchedule.ts"
import type { KeyPair, Primitives } from "../domain/protocol/Primitives.ts"
import * as Tombstone from "../domain/Tombstone.ts"
import { Crypto } from "../services/Crypto.ts"
import { type SecureFileError, SecureFileStore } from "../services/SecureFileStore.ts"
import * as Burn from "./Burn.ts"
import * as Compromise from "./Compromise.ts"
import * as Identity from "./Identity.ts"

const VERSION = 1
const MAX_LENGTH = 256 * 1024
/** Addresses and hint counters remembered. */
const MAX_ADDRESSES = 8
const MAX_HINTS = 8

/**
 * - `Burnt`: COMPROMISED has burnt this identity and it has come back, or some of it cannot be deleted.
 * - `Corrupt`: a file of the identity does not hold what it must.
 * - `NoKey`: the server's key is none, or `confirm` names a pairing that was never kept.
 * - `NotPaired`: there is no server to change.
 */
export class ClientIdentityError extends Data.TaggedError("ClientIdentityError")<{
  readonly reason: "Burnt" | "Corrupt" | "NoKey" | "NotPaired"
  /** One line for people: what, where, what to do. */
  readonly message: string
}> {}

// -- what is on disk ------------------------------------------------------------------------------------------------

const AddressJson = Schema.Struct({
  host: Schema.String,
  port: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65535 }))
})
const Secret = Bytes.hex(Constants.SECRET_LENGTH)

const server = {
  version: Schema.Literal(VERSION),
  serverId: Schema.String,
  serverName: Schema.String,
  /** The server's static key. */
  serverKey: Secret,
  /** The credential that enrolled us, and so our device id. */
  credentialId: Bytes.hex(Constants.CREDENTIAL_ID_LENGTH),
  /** The device's own secret. */
  psk: Secret,
  /** Finds the server's ports. */
  portSeed: Secret,
  /** Milliseconds that the server keeps a port, 0 for ever; an hour while it has not said. */
  portPeriodMs: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 86_400_000 }))),
  /** The llm tier's static key; absent while the server does not know it. */
  llmKey: Schema.optionalKey(Secret),
  endpoints: Schema.Array(AddressJson),
  /** Those of them that are the server's at TURN relays. */
  relayed: Schema.optionalKey(Schema.Array(AddressJson)),
  natTraversal: CredentialFile.NatTraversal
}

const ServerRecord = Schema.Struct(server)
/** The server a client is enrolled with. */
export type ServerRecord = typeof ServerRecord.Type

const PendingRecord = Schema.Struct({
  ...server,
  filePsk: Secret,
  /** Milliseconds; the slot of the file's hints. */
  validFrom: Schema.Int,
  validUntil: Schema.Int
})
type PendingRecord = typeof PendingRecord.Type

const LastRecord = Schema.Struct({
  version: Schema.Literal(VERSION),
  serverId: Schema.String,
  addresses: Schema.Array(AddressJson).check(Schema.isMaxLength(MAX_ADDRESSES)),
  skewMs: Schema.Int,
  hints: Schema.Record(
    Schema.String,
    Schema.Struct({
      slot: Schema.Int,
      answered: Schema.Int,
      tried: Schema.Int,
      others: Schema.optionalKey(Schema.Array(Schema.Tuple([Schema.Int, Schema.Int, Schema.Int])))
    })
  )
})
type LastRecord = typeof LastRecord.Type

const codec = <S extends Schema.Codec<unknown, unknown>>(schema: S) => ({
  decode: Schema.decodeUnknownOption(Schema.fromJsonString(schema)),
  encode: Schema.encodeSync(Schema.fromJsonString(schema))
})
const serverCodec = codec(ServerRecord)
const pendingCodec = codec(PendingRecord)
const lastCodec = codec(LastRecord)

// -- what the client does with it -----------------------------------------------------------------------------------

/** What a `.sec` file tells about the server, and what a pending enrolment keeps of it. */
export interface Pairing {
  readonly serverId: string
  readonly serverName: string
  readonly serverKey: Uint8Array
  readonly credentialId: Uint8Array
  readonly filePsk: Uint8Array
  readonly validFrom: number
  readonly validUntil: number
  readonly endpoints: ReadonlyArray<Address.Address>
  /** Those of them that are the server's at TURN relays. */
  readonly relayed?: ReadonlyArray<Address.Address>
  readonly natTraversal: CredentialFile.NatTraversal
}

export interface ClientInvitation extends Invitation {
  /** Names it in the hint counters that are kept over restarts. */
  readonly key: string
  /** Set where the file's secret is used: what `persist` needs. */
  readonly pairing: Pairing | undefined
  /** What helps to get through. */
  readonly natTraversal: CredentialFile.NatTraversal
  /** Where the server is at TURN relays. */
  readonly relayed: ReadonlyArray<Address.Address>
}

export type Status =
  | { readonly _tag: "Unpaired" }
  /** An enrolment not confirmed yet; `until` (ms) the file's secret may still help. */
  | { readonly _tag: "Pending"; readonly server: ServerRecord; readonly until: number }
  | { readonly _tag: "Enrolled"; readonly server: ServerRecord }

/** What helped last time; nothing here is secret, and losing it costs only time. */
export interface Last {
  readonly addresses: ReadonlyArray<Address.Address>
  /** Milliseconds that the clock had to be moved for the server to listen. */
  readonly skewMs: number
  readonly hints: Readonly<Record<string, HintState>>
}

export interface ClientIdentity {
  readonly keyPair: KeyPair
  readonly status: Effect.Effect<Status, Failure>
  /** What is known of the server that this credential (16 bytes) belongs to. */
  readonly server: (credentialId: Uint8Array) => Effect.Effect<ServerRecord | undefined, Failure>
  /**
   * What to try, in this order. While a pairing is pending and its file good: the new device's secret, the file's, then
   * an earlier server's. Once the file has expired the earlier server comes first.
   */
  readonly invitations: Effect.Effect<ReadonlyArray<ClientInvitation>, Failure>
  /** Keeps an enrolment; durable when it returns. To be done before the first transport packet. */
  readonly persist: (pairing: Pairing, enrolment: Enrolment) => Effect.Effect<void, Failure>
  /** The server has answered under this credential (16 bytes): a pending enrolment becomes the device's. Idempotent. */
  readonly confirm: (credentialId: Uint8Array) => Effect.Effect<void, Failure>
  /** New facts about the server we are enrolled with. */
  readonly update: (
    change: Partial<
      Pick<
        ServerRecord,
        "serverName" | "portSeed" | "portPeriodMs" | "llmKey" | "endpoints" | "relayed" | "natTraversal"
      >
    >
  ) => Effect.Effect<void, Failure>
  readonly last: Effect.Effect<Last>
  /** Remembers an address that worked (the best first), the clock offset and the hint counters; best effort. */
  readonly remember: (facts: {
    readonly address?: Address.Address
    readonly skewMs?: number
    readonly hints?: Readonly<Record<string, HintState>>
  }) => Effect.Effect<void>
  /** Removes what is known of any server; the static key stays unless `key` is set (COMPROMISED). */
  readonly forget: (options?: { readonly key?: boolean }) => Effect.Effect<void, SecureFileError>
  /** COMPROMISED: burns all of it, on disk and here; `seal` gives what is to be said to the server. */
  readonly burn: (
    act: Pick<Compromise.Act<never>, "seal" | "answers"> & { readonly cause: Tombstone.Cause }
  ) => Effect.Effect<Compromise.Outcome>
  /** Waits until this identity is burnt, by whichever process of the home. */
  readonly burnt: Effect.Effect<void>
}

export type Failure = ClientIdentityError | SecureFileError

const NOTHING: Last = { addresses: [], skewMs: 0, hints: {} }

/** The id that the server knows this device by, 32 hexadecimal digits. */
export const deviceIdOf = (record: ServerRecord): string => hex(record.credentialId)

/** What a file lets one try; valid or not is for `CredentialFiles` to say. */
export const pairingOf = (file: CredentialFile.CredentialFile): Pairing => ({
  serverId: file.server_id,
  serverName: file.server_name,
  serverKey: file.server_public_key,
  credentialId: fromHex(file.connection_id) ?? new Uint8Array(0),
  filePsk: file.shared_secret,
  validFrom: file.valid_from,
  validUntil: file.valid_until,
  endpoints: CredentialFile.endpoints(file),
  relayed: file.candidates
    .filter(({ kind }) => kind === "relayed")
    .map(({ address, port }) => ({ host: address, port })),
  natTraversal: file.nat_traversal
})

/** The invitation of a file's secret. */
export const invitationOf = (pairing: Pairing): ClientInvitation => ({
  key: `${hex(pairing.credentialId)}/file`,
  id: pairing.credentialId,
  psk: pairing.filePsk,
  slot: pairing.validFrom,
  serverKey: pairing.serverKey,
  endpoints: pairing.endpoints,
  pairing,
  natTraversal: pairing.natTraversal,
  relayed: pairing.relayed ?? []
})

const deviceInvitation = (record: ServerRecord): ClientInvitation => ({
  key: `${hex(record.credentialId)}/device`,
  id: record.credentialId,
  psk: record.psk,
  slot: undefined,
  serverKey: record.serverKey,
  endpoints: record.endpoints,
  pairing: undefined,
  natTraversal: record.natTraversal,
  relayed: record.relayed ?? []
})

const distinct = (addresses: ReadonlyArray<Address.Address>): ReadonlyArray<Address.Address> =>
  addresses.filter((address, index) => addresses.findIndex((other) => Address.equals(other, address)) === index)

/** Hosts for which the ports of the hour are computed. */
const MAX_HOSTS = 3

/**
 * Where a server is likely to be, best first: where it was last, then where its schedule has it by now on all hosts that are
 * known, then the other addresses that are known, then ports that its schedule had, will have, or has where one was taken.
 */
const placesOf = (
  primitives: Primitives,
  { portPeriodMs = Constants.PORT_PERIOD_MS, portSeed }: ServerRecord,
  known: ReadonlyArray<Address.Address>,
  wallMs: number
): ReadonlyArray<Address.Address> => {
  const hosts = [...new Set(known.map(({ host }) => host))].slice(0, MAX_HOSTS)
  const isFixed = portPeriodMs === 0
  const schedule = PortSchedule.make(primitives, portSeed, isFixed ? Constants.PORT_PERIOD_MS : portPeriodMs)
  const ports = PortSchedule.candidates(schedule, wallMs)
  const [first = [], ...others] = ports.map((port) => hosts.map((host) => ({ host, port })))
  // A port that was fixed may not be so any more.
  const places = isFixed ? [known, first] : [known.slice(0, 1), first, known]
  return distinct([...places, ...others].flat()).slice(0, Constants.MAX_DIAL_ENDPOINTS)
}

const isGood = (pending: PendingRecord, now: number): boolean =>
  now <= pending.validUntil + CredentialFile.CLOCK_SKEW_MS

const sameCredential = (a: { readonly credentialId: Uint8Array }, b: { readonly credentialId: Uint8Array }): boolean =>
  hex(a.credentialId) === hex(b.credentialId)

/** A file of zeros is one whose removal was cut short: removal overwrites before it unlinks. */
const isThere = (bytes: Option.Option<Uint8Array>): bytes is Option.Some<Uint8Array> =>
  Option.isSome(bytes) && bytes.value.some((byte) => byte !== 0)

/** Whether a client's home knows a server, or is about to. Makes nothing, and does not look into the files. */
export const isPaired = Effect.fn("ClientIdentity.isPaired")(function* (paths: HomePaths.ClientPaths) {
  const store = yield* SecureFileStore
  const files = yield* Effect.forEach([paths.pending, paths.server], (path) =>
    store.read(path, { maxBytes: MAX_LENGTH })
  )
  return files.some(isThere)
})

/** The identity of a client's home; makes the static key when there is none, and finishes what a crash cut short. */
export const make = Effect.fn("ClientIdentity.make")(function* (paths: HomePaths.ClientPaths) {
  const store = yield* SecureFileStore
  const { primitives } = yield* Crypto
  const plan = Burn.client(paths)
  yield* Effect.andThen(
    Burn.finish(plan, () => Effect.void),
    Burn.refuseReturned(plan)
  ).pipe(
    Effect.catchTag("BurnError", ({ message }) => Effect.fail(new ClientIdentityError({ reason: "Burnt", message })))
  )
  const keyPair = yield* Identity.loadOrCreateStatic(paths.staticKey)
  const lastPath = HomePaths.join(paths.identity, "last.json")

  const read = Effect.fnUntraced(function* <A>(path: string, decode: (content: unknown) => Option.Option<A>) {
    const bytes = yield* store.read(path, { maxBytes: MAX_LENGTH })
    if (!isThere(bytes)) return Option.none<A>()
    const record = decode(text(bytes.value))
    if (Option.isSome(record)) return record
    return yield* new ClientIdentityError({
      reason: "Corrupt",
      message: `${path} cannot be understood: restore it from a backup, or remove it and pair with a fresh .sec file`
    })
  })

  const load = Effect.gen(function* () {
    const pending = yield* read(paths.pending, pendingCodec.decode)
    const enrolled = yield* read(paths.server, serverCodec.decode)
    const leftover = Option.isSome(pending) && Option.isSome(enrolled) && sameCredential(pending.value, enrolled.value)
    return {
      pending: leftover ? undefined : Option.getOrUndefined(pending),
      enrolled: Option.getOrUndefined(enrolled),
      leftover
    }
  })

  const writeServer = (record: ServerRecord) => store.write(paths.server, utf8(`${serverCodec.encode(record)}\n`))
  const writePending = (record: PendingRecord) => store.write(paths.pending, utf8(`${pendingCodec.encode(record)}\n`))

  const loadLast: Effect.Effect<LastRecord | undefined> = store.read(lastPath, { maxBytes: MAX_LENGTH }).pipe(
    Effect.map((bytes) => Option.getOrUndefined(Option.flatMap(bytes, (content) => lastCodec.decode(text(content))))),
    Effect.orElseSucceed(() => undefined)
  )

  if ((yield* load).leftover) yield* store.burn(paths.pending)

  const status = Effect.map(load, ({ enrolled, pending }): Status => {
    if (pending !== undefined) return { _tag: "Pending", server: recordOf(pending), until: pending.validUntil }
    return enrolled === undefined ? { _tag: "Unpaired" } : { _tag: "Enrolled", server: enrolled }
  })

  const serverOf: ClientIdentity["server"] = (credentialId) =>
    Effect.map(load, ({ enrolled, pending }) =>
      [pending === undefined ? undefined : recordOf(pending), enrolled].find(
        (record) => record !== undefined && sameCredential(record, { credentialId })
      )
    )

  const invitations = Effect.gen(function* () {
    const { enrolled, pending } = yield* load
    const last = yield* loadLast
    const now = yield* Clock.currentTimeMillis
    const placed = (record: ServerRecord, invitation: ClientInvitation): ClientInvitation => {
      const remembered = last?.serverId === record.serverId ? last.addresses : []
      const known = distinct([...remembered, ...invitation.endpoints])
      return {
        ...invitation,
        endpoints: placesOf(primitives, record, known, now + (last?.skewMs ?? 0)),
        endpointsAt: (wallMs) => placesOf(primitives, record, known.slice(0, 1), wallMs).slice(1)
      }
    }
    const earlier = enrolled === undefined ? [] : [placed(enrolled, deviceInvitation(enrolled))]
    if (pending === undefined) return earlier
    const device = placed(pending, deviceInvitation(pending))
    if (!isGood(pending, now)) return [...earlier, device]
    return [device, invitationOf(pending), ...earlier]
  })

  const persist = Effect.fnUntraced(function* (pairing: Pairing, enrolment: Enrolment) {
    const { enrolled } = yield* load
    const dh = primitives.dh(keyPair.privateKey, pairing.serverKey)
    if (dh === undefined) {
      return yield* new ClientIdentityError({
        reason: "NoKey",
        message: `The file of ${pairing.serverName} holds no key of a server: fetch a fresh one`
      })
    }
    const { filePsk, validFrom, validUntil, ...about } = pairing
    const record: ServerRecord = {
      ...about,
      version: VERSION,
      psk: KeySchedule.deviceSecret(primitives, filePsk, dh, pairing.credentialId),
      portSeed: enrolment.portSeed,
      ...(enrolment.llmKey === undefined ? {} : { llmKey: enrolment.llmKey })
    }
    dh.fill(0)
    // Confirmed before: what is new replaces what is known, and nothing is pending.
    if (enrolled !== undefined && sameCredential(enrolled, record))
      return yield* writeServer({ ...enrolled, ...record })
    yield* writePending({ ...record, filePsk, validFrom, validUntil })
  })

  const confirm = Effect.fnUntraced(function* (credentialId: Uint8Array) {
    const { enrolled, leftover, pending } = yield* load
    const named = { credentialId }
    if (pending !== undefined && sameCredential(pending, named)) {
      yield* writeServer(recordOf(pending))
      return yield* store.burn(paths.pending)
    }
    if (enrolled === undefined || !sameCredential(enrolled, named)) {
      return yield* new ClientIdentityError({
        reason: "NoKey",
        message: `${paths.identity} holds no enrolment ${hex(credentialId)}: pair with a fresh .sec file`
      })
    }
    if (leftover) yield* store.burn(paths.pending)
  })

  const update: ClientIdentity["update"] = Effect.fnUntraced(function* (change) {
    const { enrolled } = yield* load
    if (enrolled === undefined) {
      return yield* new ClientIdentityError({
        reason: "NotPaired",
        message: `${paths.identity} knows no server: pair with a .sec file first`
      })
    }
    yield* writeServer({ ...enrolled, ...change })
  })

  const remember: ClientIdentity["remember"] = Effect.fnUntraced(
    function* ({ address, hints, skewMs }) {
      const { enrolled, pending } = yield* load
      const serverId = (pending ?? enrolled)?.serverId
      if (serverId === undefined) return
      const known = yield* loadLast
      const before = known?.serverId === serverId ? known : NOTHING
      const record: LastRecord = {
        version: VERSION,
        serverId,
        addresses: distinct([...(address === undefined ? [] : [address]), ...before.addresses]).slice(0, MAX_ADDRESSES),
        skewMs: skewMs ?? before.skewMs,
        hints: Object.fromEntries(Object.entries({ ...before.hints, ...hints }).slice(-MAX_HINTS))
      }
      const content = lastCodec.encode(record)
      // A write takes milliseconds, and each connect comes here several times.
      if (known !== undefined && lastCodec.encode(known) === content) return
      yield* store.write(lastPath, utf8(`${content}\n`))
    },
    Effect.catch((error) => Effect.logDebug(`Not remembered: ${error.message}`))
  )

  const forget: ClientIdentity["forget"] = Effect.fnUntraced(function* (options) {
    yield* store.burn(paths.pending)
    yield* store.burn(paths.server)
    yield* store.burn(lastPath)
    if (options?.key === true) yield* store.burn(paths.staticKey)
  })

  const last = Effect.map(loadLast, (record): Last => record ?? NOTHING)

  const context = yield* Effect.context<Crypto | SecureFileStore>()
  const burn: ClientIdentity["burn"] = Effect.fnUntraced(function* ({ answers, cause, seal }) {
    const wipe = Effect.sync(() => void keyPair.privateKey.fill(0))
    const outcome = yield* Compromise.carryOut({ plan, about: { cause }, seal, wipe, answers })
    if (outcome.left.length === 0) yield* Effect.ignore(Burn.lift(plan))
    return outcome
  }, Effect.provideContext(context))
  const marks = Tombstone.fingerprints(primitives, "static.key", utf8(hex(keyPair.privateKey)))
  const burnt = Effect.provideContext(Burn.burnt(plan, marks), context)

  return {
    keyPair,
    status,
    server: serverOf,
    invitations,
    persist,
    confirm,
    update,
    last,
    remember,
    forget,
    burn,
    burnt
  } satisfies ClientIdentity
})

const recordOf = ({ filePsk: _psk, validFrom: _from, validUntil: _until, ...record }: PendingRecord): ServerRecord =>
  record
