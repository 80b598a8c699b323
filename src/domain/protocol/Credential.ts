/** What both sides of a handshake know of each other beforehand. */
import type { Address } from "./Address.ts"

/** A server's side: one unexpired `.sec` file or one enrolled device whose initiations are expected. */
export interface Admission {
  /** `CREDENTIAL_ID_LENGTH` bytes, bound into the handshake; also the device's id once enrolled. */
  readonly id: Uint8Array
  /** 32 bytes. */
  readonly psk: Uint8Array
  /** The slot of a `.sec` file's hints, its `valid_from` in ms; a device's slots follow the wall clock. */
  readonly slot: number | undefined
  /** The only static key that may use it: an enrolled device's, or the one that a burnt file enrolled. */
  readonly staticKey: Uint8Array | undefined
  /** Wall-clock ms after which it admits nobody; `Infinity` for a device. */
  readonly validUntil: number
}

/** A client's side: one way to reach one server. */
export interface Invitation {
  readonly id: Uint8Array
  readonly psk: Uint8Array
  readonly slot: number | undefined
  /** The server's static key, 32 bytes. */
  readonly serverKey: Uint8Array
  /** Where initiations go, best first; at least one. */
  readonly endpoints: ReadonlyArray<Address>
  /** Where the server would be at another time of day (ms), best first: for a clock that may be wrong. */
  readonly endpointsAt?: ((wallMs: number) => ReadonlyArray<Address>) | undefined
}
