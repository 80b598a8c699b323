/** A server and its enrolled devices as both processes of a benchmark know them: every key comes from a seed. */
import type { Admission, Invitation } from "../src/domain/protocol/Credential.ts"
import type { KeyPair } from "../src/domain/protocol/Primitives.ts"
import { entropySeeded, primitives } from "../src/layers/CryptoNode.ts"

export const serverKeys: KeyPair = primitives.keyPair(entropySeeded("bench server")(32))

export interface Device {
  readonly id: Uint8Array
  readonly psk: Uint8Array
  readonly keys: KeyPair
}

export const device = (index: number): Device => {
  const entropy = entropySeeded(`bench device ${index}`)
  return { id: entropy(16), psk: entropy(32), keys: primitives.keyPair(entropy(32)) }
}

export const admission = ({ id, psk, keys }: Device): Admission => ({
  id,
  psk,
  slot: undefined,
  staticKey: keys.publicKey,
  validUntil: Number.POSITIVE_INFINITY
})

export const invitation = ({ id, psk }: Device, host: string, port: number): Invitation => ({
  id,
  psk,
  slot: undefined,
  serverKey: serverKeys.publicKey,
  endpoints: [{ host, port }]
})
