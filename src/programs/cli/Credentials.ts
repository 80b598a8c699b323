/** What the settings say of the credential files that a server's home writes, whether the server runs or not. */
import * as CredentialFile from "../../domain/CredentialFile.ts"
import * as HomePaths from "../../domain/HomePaths.ts"
import type { Values } from "../../domain/Settings.ts"
import * as Burn from "../Burn.ts"
import type * as Relay from "../Relay.ts"
import * as Common from "./Common.ts"

/** Argon2id as RFC 9106 recommends where memory is limited: 64 MiB, three passes, four lanes. */
const ARGON2ID: CredentialFile.Kdf = { name: "argon2id", memoryKib: 65_536, passes: 3, parallelism: 4 }

type Options = Pick<
  Relay.Options,
  | "serverId"
  | "serverName"
  | "publicIp"
  | "publicPort"
  | "credentialFolder"
  | "backupFolder"
  | "validityMs"
  | "rotationMs"
  | "natTraversal"
  | "gracePeriodSeconds"
> & { readonly kdf: CredentialFile.Kdf }

const publicIp = ({ server }: Values): string => {
  if (server.ip !== undefined) return server.ip
  return server.bind === "0.0.0.0" || server.bind === "::" ? Common.ownAddress() : server.bind
}

/** What COMPROMISED burns on a server's home. */
export const burns = ({ home, security }: Values): Burn.Plan =>
  Burn.server(HomePaths.server(home), { credentials: security.directory, backup: security.backupDirectory })

/** `publicKey` is the server's static one. */
export const options = (values: Values, publicKey: Uint8Array): Options => ({
  serverId: Common.serverId(values, publicKey),
  serverName: values.server.name,
  publicIp: publicIp(values),
  publicPort: values.server.publicPort,
  kdf: values.security.kdf === "argon2id" ? ARGON2ID : CredentialFile.DEFAULT_KDF,
  credentialFolder: values.security.directory,
  backupFolder: values.security.backupDirectory,
  validityMs: values.security.fileValidityMs,
  rotationMs: values.security.autoRegenerateMs,
  natTraversal: { stun: [], turn: [], rendezvous: [], timeout: values.networking.holePunchTimeoutMs / 1000 },
  gracePeriodSeconds: values.encryption.gracePeriodMs / 1000
})
