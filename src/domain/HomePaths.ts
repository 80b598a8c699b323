/**
 * Where everything stands below a home: one pure function per tier, so that no path is put together anywhere else.
 * All results are absolute when the home is.
 */

/** What the default home depends on; read once by the host layer. */
export interface HostFacts {
  /** As Node names it: `linux`, `darwin`, `win32`, `android`, ... */
  readonly platform: string
  /** The user's own folder. */
  readonly userHome: string
  readonly environment: Readonly<Record<string, string | undefined>>
}

/** A drive letter or a UNC prefix marks a Windows path. */
const isWindowsPath = (path: string): boolean => /^[A-Za-z]:[\\/]|^\\\\/.test(path)

/** Joins names to a folder with the separator that the folder itself uses. */
export const join = (folder: string, ...names: ReadonlyArray<string>): string => {
  const separator = isWindowsPath(folder) ? "\\" : "/"
  const bare =
    folder.length > 1 && /[\\/]$/.test(folder) && !/^[A-Za-z]:[\\/]$/.test(folder) ? folder.slice(0, -1) : folder
  return names.reduce((path, name) => (/[\\/]$/.test(path) ? path + name : path + separator + name), bare)
}

/**
 * `$XDG_STATE_HOME/clawchat`, else `~/.local/state/clawchat`; on Windows `%LOCALAPPDATA%\clawchat`. A relative
 * XDG_STATE_HOME is ignored, as the XDG Base Directory Specification asks.
 */
export const defaultHome = (facts: HostFacts): string => {
  if (facts.platform === "win32") {
    const local = facts.environment.LOCALAPPDATA
    return join(
      local !== undefined && isWindowsPath(local) ? local : join(facts.userHome, "AppData", "Local"),
      "clawchat"
    )
  }
  const state = facts.environment.XDG_STATE_HOME
  return join(state?.startsWith("/") ? state : join(facts.userHome, ".local", "state"), "clawchat")
}

/** `.env` files of a home, the stronger first. */
export const envFiles = (home: string): ReadonlyArray<string> => [join(home, "config", ".env"), join(home, ".env")]

/** The server's part of a home. */
export interface ServerPaths {
  readonly home: string
  readonly config: string
  readonly configFile: string
  /** 0600: the key that `.sec` files are encrypted under, when the environment gives none. */
  readonly bootstrapKey: string
  /** Lines that rendezvous have printed, one for each that this server may use. */
  readonly rendezvousKey: string
  /** 0600: what its TURN servers take, when the environment does not say. */
  readonly turnCredentials: string
  readonly security: string
  /** The credential file of the hour. */
  readonly credential: string
  readonly archive: string
  readonly identity: string
  readonly staticKey: string
  readonly portSeed: string
  /** The UDP port of the last run, taken again when it is free: devices know it. */
  readonly lastPort: string
  /** Folder: one record per enrolled device. */
  readonly devices: string
  /** Shared secret between server and llm tier, watched by both. */
  readonly llmLink: string
  /** The llm tier's static public key, written by that tier. */
  readonly llmPublicKey: string
  /** The server's static public key, written by the server for the llm tier. */
  readonly serverPublicKey: string
  /** Where the hints of the link to the llm tier stand. */
  readonly llmHints: string
  /** Handshake nonces that are still to be remembered. */
  readonly nonces: string
  /** Stands from the moment COMPROMISED begins until its deletions are done. */
  readonly tombstone: string
  /** Fingerprints of all that COMPROMISED has burned here: none of it may come back. */
  readonly burnt: string
  readonly run: string
  readonly control: string
  readonly lock: string
  readonly logs: string
  readonly log: string
  /** What happened: JSON lines. */
  readonly audit: string
  /** Default base path of the files that clients see; both tiers serve it. */
  readonly data: string
}

export const server = (home: string): ServerPaths => {
  const config = join(home, "config")
  const security = join(home, "security")
  const identity = join(home, "identity")
  const run = join(home, "run")
  const logs = join(home, "logs")
  return {
    home,
    config,
    configFile: join(config, "server.yaml"),
    bootstrapKey: join(config, "bootstrap.key"),
    rendezvousKey: join(config, "rendezvous.key"),
    turnCredentials: join(config, "turn.credentials"),
    security,
    ...credentials(security),
    identity,
    staticKey: join(identity, "static.key"),
    portSeed: join(identity, "port.seed"),
    lastPort: join(identity, "port"),
    devices: join(identity, "devices"),
    ...link(identity),
    llmHints: join(identity, "llm.hints"),
    nonces: join(identity, "nonces"),
    tombstone: join(identity, "tombstone"),
    burnt: join(security, "burnt.json"),
    run,
    control: join(run, "control.sock"),
    lock: join(run, "lock"),
    logs,
    log: join(logs, "clawchat.log"),
    audit: join(logs, "audit.log"),
    data: join(home, "data")
  }
}

/** What stands in the folder of credential files, which `security.directory` may move. */
export const credentials = (security: string): { readonly credential: string; readonly archive: string } => ({
  credential: join(security, "clawchat-current.sec"),
  archive: join(security, "archive")
})

/** The three files that tie server and llm tier, seen by both. */
const link = (identity: string) => ({
  llmLink: join(identity, "llm.link"),
  llmPublicKey: join(identity, "llm.pub"),
  serverPublicKey: join(identity, "server.pub")
})

/** The llm tier's part of a home, below `llm/`; the three files of the link stand in the server's `identity/`. */
export interface LlmPaths {
  readonly home: string
  readonly root: string
  readonly configFile: string
  readonly identity: string
  readonly staticKey: string
  /** Handshake nonces that are still to be remembered. */
  readonly nonces: string
  /** Folder: the static key of each device that has spoken to this tier. */
  readonly devices: string
  readonly tombstone: string
  readonly burnt: string
  readonly llmLink: string
  readonly llmPublicKey: string
  readonly serverPublicKey: string
  readonly context: string
  readonly database: string
  readonly run: string
  readonly control: string
  readonly lock: string
  readonly logs: string
  readonly log: string
  readonly data: string
}

export const llm = (home: string): LlmPaths => {
  const root = join(home, "llm")
  const identity = join(root, "identity")
  const run = join(root, "run")
  const logs = join(root, "logs")
  return {
    home,
    root,
    configFile: join(home, "config", "server.yaml"),
    identity,
    staticKey: join(identity, "static.key"),
    nonces: join(identity, "nonces"),
    devices: join(identity, "devices"),
    tombstone: join(identity, "tombstone"),
    burnt: join(root, "burnt.json"),
    ...link(join(home, "identity")),
    context: join(root, "context"),
    database: join(root, "clawchat.db"),
    run,
    control: join(run, "control.sock"),
    lock: join(run, "lock"),
    logs,
    log: join(logs, "clawchat.log"),
    data: join(home, "data")
  }
}

/** The rendezvous' part of a home, below `rendezvous/`: it may be a host's whole home or share one. */
export interface RendezvousPaths {
  readonly home: string
  /** What servers and relay share: tickets are made with it. */
  readonly key: string
  /** UDP port of the last run, which is known outside. */
  readonly lastPort: string
  readonly control: string
  readonly lock: string
  readonly log: string
}

export const rendezvous = (home: string): RendezvousPaths => {
  const root = join(home, "rendezvous")
  return {
    home,
    key: join(root, "identity", "relay.key"),
    lastPort: join(root, "identity", "port"),
    control: join(root, "run", "control.sock"),
    lock: join(root, "run", "lock"),
    log: join(root, "logs", "clawchat.log")
  }
}

/** A client's home. */
export interface ClientPaths {
  readonly home: string
  readonly configFile: string
  readonly identity: string
  readonly staticKey: string
  /** The server this client is enrolled with. */
  readonly server: string
  /** An enrolment that has not been confirmed yet. */
  readonly pending: string
  readonly tombstone: string
  readonly burnt: string
  readonly drafts: string
  readonly run: string
  readonly control: string
  readonly lock: string
  readonly logs: string
  readonly log: string
}

export const client = (home: string): ClientPaths => {
  const identity = join(home, "identity")
  const run = join(home, "run")
  const logs = join(home, "logs")
  return {
    home,
    configFile: join(home, "client.yaml"),
    identity,
    staticKey: join(identity, "static.key"),
    server: join(identity, "server.json"),
    pending: join(identity, "pending.json"),
    tombstone: join(identity, "tombstone"),
    burnt: join(home, "burnt.json"),
    drafts: join(home, "drafts"),
    run,
    control: join(run, "control.sock"),
    lock: join(run, "lock"),
    logs,
    log: join(logs, "clawchat.log")
  }
}

/** The home of a client that lives on one home with a server, whose `identity/` and `run/` it must not share. */
export const clientBeside = (home: string): string => join(home, "client")
