/**
 * All settings: their keys, names in every source, kinds, defaults and meaning, in one table. What is read from it: the
 * typed values and the list that documents and tests walk. What sources give for them is weighed in `GivenSettings.ts`.
 */
import * as Result from "effect/Result"
import * as HomePaths from "./HomePaths.ts"
import { Provider } from "./Llm.ts"
import { STUN_PORT } from "./ServerName.ts"
import * as Kinds from "./SettingKinds.ts"
import { MAX_LENGTH as TURN_LENGTH } from "./TurnCredentials.ts"

/** Which of the shipped files shows a setting; `environment` is for secrets, which stand in no YAML. */
export type Place = "server" | "client" | "both" | "environment"

/** Command-line names, without the dashes. */
export type FlagName =
  | "home"
  | "config"
  | "name"
  | "ip"
  | "bind"
  | "port"
  | "public-port"
  | "security-dir"
  | "provider"
  | "model"
  | "base-url"
  | "context-dir"
  | "base-path"
  | "log-file"
  | "stun"
  | "rendezvous"
  | "turn"
export type Flags = { readonly [Name in FlagName]?: string | number | boolean | undefined }

interface Details {
  readonly in: Place
  /** The default, written as in YAML. */
  readonly default: string
  readonly env?: string
  readonly flag?: FlagName
  /** Accepted and checked, without effect in this release. */
  readonly later?: boolean
}

/** One setting of the table. */
export interface Entry extends Details {
  /** Dotted YAML key, `server.public_port`. */
  readonly key: string
  readonly kind: Kinds.Kind<unknown>
}

/** Asked for each setting of the table, in its order: the value to put there. */
export type Read = <A>(key: string, kind: Kinds.Kind<A>, details: Details) => A

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** Names ending in `Ms` are milliseconds, in `Bytes` bytes; `undefined` leaves the choice to the program. */
export const table = (read: Read, role: Role) => ({
  /** Folder of all state, absolute. */
  home: read(
    "home",
    Kinds.path((home) => home),
    { in: "both", default: "auto", env: "CLAWCHAT_HOME", flag: "home" }
  ),
  server: {
    /** Stable name of the server in `.sec` files; made from its static key when unset. */
    id: read("server.id", Kinds.autoOr(Kinds.line(64)), { in: "server", default: "auto" }),
    /** For people. */
    name: read("server.name", Kinds.line(64), {
      in: "server",
      default: "clawchat",
      env: "CLAWCHAT_SERVER_NAME",
      flag: "name"
    }),
    /** Public address announced in the `.sec`; the host's first IPv4 address that is not loopback when unset. */
    ip: read("server.ip", Kinds.autoOr(Kinds.ip), {
      in: "server",
      default: "auto",
      env: "CLAWCHAT_SERVER_IP",
      flag: "ip"
    }),
    /** UDP port of the socket; when unset one of 49152-65535 that changes by itself. */
    port: read("server.port", Kinds.autoOr(Kinds.port), {
      in: "server",
      default: "auto",
      env: "CLAWCHAT_SERVER_PORT",
      flag: "port"
    }),
    /** Address of the socket. */
    bind: read("server.bind", Kinds.ip, {
      in: "server",
      default: "0.0.0.0",
      env: "CLAWCHAT_SERVER_BIND",
      flag: "bind"
    }),
    /** Port announced in the `.sec` where a router forwards another one. */
    publicPort: read("server.public_port", Kinds.autoOr(Kinds.port), {
      in: "server",
      default: "auto",
      env: "CLAWCHAT_SERVER_PUBLIC_PORT",
      flag: "public-port"
    })
  },
  security: {
    /** Folder of credential files. */
    directory: read(
      "security.directory",
      Kinds.path((home) => HomePaths.server(home).security),
      { in: "server", default: "auto", env: "CLAWCHAT_SECURITY_DIR", flag: "security-dir" }
    ),
    fileValidityMs: read("security.file_validity_minutes", Kinds.amount("minutes", 1, 1440), {
      in: "server",
      default: "11"
    }),
    autoRegenerateMs: read("security.auto_regenerate_minutes", Kinds.amount("minutes", 0.5, 1440), {
      in: "server",
      default: "10"
    }),
    cleanupIntervalMs: read("security.cleanup_interval_hours", Kinds.amount("hours", 0.01, 720), {
      in: "server",
      default: "1"
    }),
    /** Derivation of a `.sec` file's key from the bootstrap key. */
    kdf: read("security.kdf", Kinds.oneOf("pbkdf2", "argon2id"), { in: "server", default: "pbkdf2" }),
    /** Keep expired credential files in `archive/`, sealed as they are. */
    archive: read("security.archive", Kinds.flag, { in: "server", default: "false", later: true }),
    /** Folder that gets a copy of each credential file, sealed as it is. */
    backupDirectory: read(
      "security.backup_directory",
      Kinds.pathOrNone(() => undefined),
      { in: "server", default: "none" }
    ),
    bootstrapKey: read("security.bootstrap_key", Kinds.secret(16, 1024, "spaces"), {
      in: "environment",
      default: "",
      env: "CLAWCHAT_BOOTSTRAP_KEY"
    })
  },
  encryption: {
    /** How long a session's keys are used; a tenth more or less, so that sessions do not move together. */
    keyRotationIntervalMs: read("encryption.key_rotation_interval", Kinds.duration(SECOND, DAY), {
      in: "both",
      default: "1 hour"
    }),
    /** How long an old server port is served after a change. */
    gracePeriodMs: read("encryption.grace_period", Kinds.duration(SECOND, HOUR), {
      in: "server",
      default: "5 minutes"
    })
  },
  networking: {
    holePunchTimeoutMs: read("networking.hole_punch_timeout", Kinds.duration(SECOND, 10 * MINUTE), {
      in: "both",
      default: "60 seconds",
      later: true
    }),
    /** How long the server keeps one port; a fixed port is kept for ever. */
    portRotationIntervalMs: read("networking.port_rotation_interval", Kinds.duration(5 * SECOND, DAY), {
      in: "server",
      default: "1 hour"
    }),
    /** Longest wait of a client between two attempts to reach the server again. */
    retryIntervalMs: read("networking.retry_interval", Kinds.duration(SECOND, HOUR), {
      in: "client",
      default: "30 seconds"
    }),
    /** Silence after which a PING keeps the NAT's mapping. */
    keepaliveIntervalMs: read("networking.keepalive_interval", Kinds.duration(SECOND, 10 * MINUTE), {
      in: "both",
      default: "15 seconds"
    }),
    /** Learn by STUN which kind of NAT is there. */
    natDetection: read("networking.nat_detection", Kinds.flag, { in: "both", default: "true" }),
    /** Have the router forward our port; by default where the server has only private addresses and no other port is announced. */
    portMapping: read("networking.port_mapping", Kinds.autoOr(Kinds.flag), { in: "server", default: "auto" }),
    /** STUN servers, asked for this host's public address and for what its NAT does. */
    stun: read("networking.stun", Kinds.servers(8, STUN_PORT), {
      in: "both",
      default: "none",
      env: "CLAWCHAT_STUN",
      flag: "stun"
    }),
    /** Relays that carry sessions where no direct way is found; when none is named, all whose lines are in the key file. */
    rendezvous: read("networking.rendezvous", Kinds.servers(4), {
      in: "server",
      default: "none",
      env: "CLAWCHAT_RENDEZVOUS",
      flag: "rendezvous"
    }),
    /** The lines that the relays have printed, with commas between them. */
    rendezvousKey: read("networking.rendezvous_key", Kinds.secret(16, 1024, "no spaces"), {
      in: "environment",
      default: "",
      env: "CLAWCHAT_RENDEZVOUS_KEY"
    }),
    /** TURN servers that carry sessions where no direct way is found. */
    turn: read("networking.turn", Kinds.servers(2, STUN_PORT), {
      in: "server",
      default: "none",
      env: "CLAWCHAT_TURN",
      flag: "turn"
    }),
    /** What they take: a user's name and password, or a secret that names for a time are made from. */
    turnUsername: turnSecret(read, "networking.turn_username", "CLAWCHAT_TURN_USERNAME"),
    turnPassword: turnSecret(read, "networking.turn_password", "CLAWCHAT_TURN_PASSWORD"),
    turnSecret: turnSecret(read, "networking.turn_secret", "CLAWCHAT_TURN_SECRET"),
    /** Silence of the peer after which a session is dead. */
    idleTimeoutMs: read("networking.idle_timeout", Kinds.duration(5 * SECOND, DAY), {
      in: "both",
      default: "2 minutes"
    })
  },
  client: {
    /** This device's name as the server's owner sees it; the host's name when unset. */
    name: read("client.name", Kinds.autoOr(Kinds.line(64)), {
      in: "client",
      default: "auto",
      env: "CLAWCHAT_CLIENT_NAME"
    }),
    useGui: read("client.use_gui", Kinds.flag, {
      in: "client",
      default: "false",
      env: "CLAWCHAT_USE_GUI",
      later: true
    })
  },
  logging: {
    /** The command line's own `--log-level` is stronger, unless it says info. */
    level: read("logging.level", Kinds.oneOf("trace", "debug", "info", "warning", "error"), {
      in: "server",
      default: "info",
      env: "CLAWCHAT_LOG_LEVEL"
    }),
    /** Absolute path; undefined for no file. */
    file: read(
      "logging.file",
      Kinds.pathOrNone((home) => logOf(role, home)),
      { in: "server", default: "auto", env: "CLAWCHAT_LOG_FILE", flag: "log-file" }
    ),
    maxSizeBytes: read("logging.max_size", Kinds.size(4096, 1024 ** 4), { in: "server", default: "10 MiB" }),
    /** Full log files that are kept. */
    backupCount: read("logging.backup_count", Kinds.integer(0, 100), { in: "server", default: "5" })
  },
  llm: {
    /** Unset: openai-compatible with a base URL, else the first of anthropic, openai, deepseek with a key, else offline. */
    provider: read("llm.provider", Kinds.autoOr(Kinds.oneOf(...Provider.literals)), {
      in: "server",
      default: "auto",
      env: "CLAWCHAT_LLM_PROVIDER",
      flag: "provider"
    }),
    model: read("llm.model", Kinds.autoOr(Kinds.line(200)), {
      in: "server",
      default: "auto",
      env: "CLAWCHAT_LLM_MODEL",
      flag: "model"
    }),
    baseUrl: read("llm.base_url", Kinds.autoOr(Kinds.url), {
      in: "server",
      default: "auto",
      env: "CLAWCHAT_LLM_BASE_URL",
      flag: "base-url"
    }),
    /** Address of the llm tier. */
    host: read("llm.host", Kinds.ip, { in: "server", default: "127.0.0.1", env: "CLAWCHAT_LLM_HOST" }),
    port: read("llm.port", Kinds.port, { in: "server", default: "55556", env: "CLAWCHAT_LLM_PORT" }),
    contextDirectory: read(
      "llm.context_dir",
      Kinds.path((home) => HomePaths.llm(home).context),
      { in: "server", default: "auto", env: "CLAWCHAT_CONTEXT_DIR", flag: "context-dir" }
    ),
    timeouts: {
      connectMs: read("llm.timeouts.connect", Kinds.duration(SECOND, 10 * MINUTE), {
        in: "server",
        default: "30 seconds"
      }),
      firstTokenMs: read("llm.timeouts.first_token", Kinds.duration(SECOND, HOUR), {
        in: "server",
        default: "60 seconds"
      }),
      idleMs: read("llm.timeouts.idle", Kinds.duration(SECOND, HOUR), { in: "server", default: "60 seconds" })
    },
    /** Providers that answer while the configured one fails, in order. */
    fallback: read("llm.fallback", Kinds.standIns(4), {
      in: "server",
      default: "none",
      env: "CLAWCHAT_LLM_FALLBACK"
    }),
    /** Tokens that one answer of the provider may have; the provider's own limit when unset. */
    maxTokens: read("llm.max_tokens", Kinds.autoOr(Kinds.integer(256, 1_000_000)), { in: "server", default: "auto" }),
    /** US dollars per million tokens of the configured provider, where its price is not known, or another one. */
    price: {
      input: read("llm.price.input", Kinds.dollars(100_000), { in: "server", default: "none" }),
      output: read("llm.price.output", Kinds.dollars(100_000), { in: "server", default: "none" }),
      cached: read("llm.price.cached", Kinds.dollars(100_000), { in: "server", default: "none" })
    },
    /** US dollars that may be spent; 0 for nothing. */
    budget: {
      day: read("llm.budget.day", Kinds.dollars(1_000_000), { in: "server", default: "none" }),
      month: read("llm.budget.month", Kinds.dollars(1_000_000), { in: "server", default: "none" }),
      /** For each cron job, per day. */
      perJob: read("llm.budget.per_job", Kinds.dollars(1_000_000), { in: "server", default: "none" })
    },
    /** Tokens, by estimate, that parts of a prompt may have. */
    tokens: {
      soul: tokens(read, "llm.tokens.soul", "500"),
      agents: tokens(read, "llm.tokens.agents", "1000"),
      user: tokens(read, "llm.tokens.user", "500"),
      memory: tokens(read, "llm.tokens.memory", "1000"),
      /** Of the logs of today and yesterday, together. */
      log: tokens(read, "llm.tokens.log", "1000"),
      history: tokens(read, "llm.tokens.history", "2000"),
      /** Of a whole request. */
      prompt: tokens(read, "llm.tokens.prompt", "60000")
    },
    /** What one answer may take before it is told to come to its end. */
    turn: {
      steps: read("llm.turn.steps", Kinds.integer(1, 1000), { in: "server", default: "24" }),
      /** The time that people take to decide is not counted. */
      timeMs: read("llm.turn.time", Kinds.duration(SECOND, DAY), { in: "server", default: "10 minutes" }),
      cost: read("llm.turn.cost", Kinds.dollars(1_000_000), { in: "server", default: "none" }),
      /** How long a call waits for a person's decision. */
      approvalMs: read("llm.turn.approval_time", Kinds.duration(SECOND, DAY), { in: "server", default: "10 minutes" })
    },
    keys: {
      openai: apiKey(read, "llm.openai_api_key", "OPENAI_API_KEY"),
      anthropic: apiKey(read, "llm.anthropic_api_key", "ANTHROPIC_API_KEY"),
      deepseek: apiKey(read, "llm.deepseek_api_key", "DEEPSEEK_API_KEY"),
      "openai-compatible": apiKey(read, "llm.api_key", "CLAWCHAT_LLM_API_KEY")
    }
  },
  files: {
    /** The folder below which clients see files. */
    basePath: read(
      "files.base_path",
      Kinds.path((home) => HomePaths.server(home).data),
      { in: "server", default: "auto", env: "CLAWCHAT_BASE_PATH", flag: "base-path" }
    ),
    readOnly: read("files.read_only", Kinds.flag, { in: "server", default: "false" }),
    /** Bytes of all files, the trash aside; 0 is no limit. */
    quotaBytes: read("files.quota_bytes", Kinds.size(0, 2 ** 50), { in: "server", default: "0" }),
    /** Number of files, the trash aside; 0 is no limit. */
    quotaFiles: read("files.quota_files", Kinds.integer(0, 1_000_000_000), { in: "server", default: "0" }),
    /** How long removed files stay in the trash. */
    trashMs: read("files.trash_time", Kinds.duration(MINUTE, 366 * DAY), { in: "server", default: "30 days" }),
    /** Bytes that the trash holds before its oldest files go. */
    trashBytes: read("files.trash_size", Kinds.size(0, 2 ** 50), { in: "server", default: "10 GiB" })
  },
  limits: {
    maxSessions: read("limits.max_sessions", Kinds.integer(1, 10_000), { in: "server", default: "100" })
  }
})

const logOf = (role: Role, home: string): string => {
  if (role === "llm") return HomePaths.llm(home).log
  return role === "rendezvous" ? HomePaths.rendezvous(home).log : HomePaths.server(home).log
}

const turnSecret = (read: Read, key: string, env: string) =>
  read(key, Kinds.secret(1, TURN_LENGTH, "spaces"), { in: "environment", default: "", env })

const tokens = (read: Read, key: string, standard: string) =>
  read(key, Kinds.integer(0, 10_000_000), { in: "server", default: standard })

const apiKey = (read: Read, key: string, env: string) =>
  read(key, Kinds.secret(1, 1024, "no spaces"), { in: "environment", default: "", env })

export type Role = "server" | "llm" | "rendezvous" | "client"
/** The settings in force. */
export type Values = ReturnType<typeof table>

export const defaultOf = <A>(key: string, kind: Kinds.Kind<A>, details: Details, context: Kinds.Context): A =>
  Result.getOrThrowWith(kind.decode(details.default, context), () => new Error(`the default of ${key} is invalid`))

const entriesOf = (role: Role): ReadonlyArray<Entry> => {
  const entries: Array<Entry> = []
  const context: Kinds.Context = { home: "/", resolve: (path) => path }
  table((key, kind, details) => {
    entries.push({ key, kind, ...details })
    return defaultOf(key, kind, details, context)
  }, role)
  return entries
}

/** All settings in the order of the table. */
export const entries: ReadonlyArray<Entry> = entriesOf("server")

/** The values when nothing is set. */
export const defaults = (role: Role, home: string): Values =>
  table((key, kind, details) => defaultOf(key, kind, details, { home, resolve: (path) => path }), role)

/** Variables and flags that say where to look, before any other is read. `CLAWCHAT_CONFIG` and `--config` are no settings. */
export const CONFIG_VARIABLE = "CLAWCHAT_CONFIG"
export const HOME_VARIABLE = "CLAWCHAT_HOME"

const byVariable = new Map(
  entries.flatMap((entry) => (entry.env === undefined ? [] : [[entry.env, entry.key] as const]))
)
export const variables: ReadonlyArray<string> = [CONFIG_VARIABLE, ...byVariable.keys()]
/** Variables whose values are secret: never for child processes that do not need them. */
export const secretVariables: ReadonlyArray<string> = entries.flatMap((entry) =>
  entry.kind.secret === true && entry.env !== undefined ? [entry.env] : []
)
/** The key of a variable; `server.name` for `CLAWCHAT_SERVER_NAME`. */
export const keyOfVariable = (name: string): string | undefined => byVariable.get(name)
/** The key that a flag sets; `--name` names the device on a client, else the server. */
export const keyOfFlag = (flag: string, role: Role): string | undefined =>
  flag === "name" && role === "client" ? "client.name" : entries.find((entry) => entry.flag === flag)?.key
