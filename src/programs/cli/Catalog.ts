/**
 * The whole command line at one glance: names, flags, arguments, help. What a command does is loaded when it runs, so that
 * `--help` costs only this file.
 */

import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"

const text = (name: string, metavar: string, description: string) =>
  Flag.String(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.optional)
const number = (name: string, metavar: string, description: string) =>
  Flag.Int(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.optional)
const on = (name: string, description: string) =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withDefault(false))

const json = on("json", "Print one JSON value")
const timeout = Flag.Finite("timeout").pipe(
  Flag.withMetavar("SECONDS"),
  Flag.withDescription("How long to try before giving up"),
  Flag.withDefault(20),
  Flag.map((seconds) => Math.max(0.1, seconds) * 1000)
)
const keyFile = text("key-file", "FILE", "The server's bootstrap key (else CLAWCHAT_BOOTSTRAP_KEY)")
const logFile = text("log-file", "FILE", "Where the log is kept, or none")
const deviceName = text("name", "NAME", "What the server's owner sees this device as (else the host's name)")
const basePath = text("base-path", "FOLDER", "The folder below which clients see files")
const conversation = Flag.String("conversation").pipe(
  Flag.withAlias("c"),
  Flag.withMetavar("NAME"),
  Flag.withDescription("The conversation to talk in"),
  Flag.withDefault("main")
)

const root = Command.make("clawchat").pipe(
  Command.withDescription("A private line between a person and an AI assistant on a machine of their own"),
  Command.withSharedFlags({
    home: text("home", "FOLDER", "Folder of all state (else CLAWCHAT_HOME)"),
    config: text("config", "FILE", "YAML configuration (else CLAWCHAT_CONFIG)")
  })
)

/** Runs a verb with its own flags and the shared ones. */
const verb =
  <Input extends object, A, E, R>(load: () => Promise<(input: Input & Globals) => Effect.Effect<A, E, R>>) =>
  (input: Input) =>
    Effect.gen(function* () {
      const globals = yield* root
      const run = yield* Effect.promise(load)
      return yield* run({ ...input, ...globals })
    })
type Globals = Effect.Success<typeof root>

const up = Command.make(
  "up",
  { conversation, provider: text("provider", "NAME", "offline, openai, deepseek, anthropic or openai-compatible") },
  verb(() => import("./Up.ts").then(({ run }) => run))
).pipe(Command.withDescription("All three tiers on this machine, then a chat: the quick start"))

const server = Command.make(
  "server",
  {
    port: number("port", "PORT", "UDP port of the socket (else one of 49152-65535)"),
    bind: text("bind", "ADDRESS", "Address of the socket"),
    ip: text("ip", "ADDRESS", "Public address that credential files announce"),
    publicPort: number("public-port", "PORT", "Public port, where a router forwards another one"),
    name: text("name", "NAME", "What people call this server"),
    securityDir: text("security-dir", "FOLDER", "Where clawchat-current.sec is put"),
    basePath,
    logFile
  },
  verb(() => import("./Server.ts").then(({ run }) => run))
).pipe(Command.withDescription("The relay: dark to all but its devices"))

const llm = Command.make(
  "llm",
  {
    provider: text("provider", "NAME", "offline, openai, deepseek, anthropic or openai-compatible"),
    model: text("model", "NAME", "The provider's model"),
    baseUrl: text("base-url", "URL", "Where an OpenAI-compatible endpoint stands"),
    contextDir: text("context-dir", "FOLDER", "Where SOUL.md and its kin stand"),
    basePath,
    logFile
  },
  verb(() => import("./Llm.ts").then(({ run }) => run))
).pipe(Command.withDescription("The assistant: answers only the server of the same home"))

const chatFlags = {
  conversation,
  sec: text("sec", "FILE", "Pair with this credential file first"),
  keyFile,
  name: deviceName,
  timeout
}

const chat = Command.make(
  "chat",
  {
    ...chatFlags,
    json,
    text: Argument.String("text").pipe(
      Argument.withDescription("One message, or - for stdin; none for a conversation"),
      Argument.variadic()
    )
  },
  verb(() => import("./Chat.ts").then(({ run }) => run))
).pipe(
  Command.withDescription("Talk: at a terminal, through a pipe, or one message"),
  Command.withExamples([
    { command: "clawchat chat", description: "A conversation" },
    { command: 'clawchat chat "What is in my inbox?"', description: "One question, the answer to stdout" },
    { command: "git diff | clawchat chat -", description: "One message from stdin" }
  ])
)

const client = Command.make(
  "client",
  {
    ...chatFlags,
    file: Argument.String("file").pipe(Argument.withDescription("A credential file to pair with"), Argument.optional)
  },
  verb(() => import("./Chat.ts").then(({ client }) => client))
).pipe(Command.withDescription("The same as chat, pairing first when a credential file is given"))

const path = Argument.String("path").pipe(
  Argument.withDescription("Below the server's base path; none for the base itself"),
  Argument.optional
)
const files = Command.make("files").pipe(
  Command.withDescription("Files on the server's machine"),
  Command.withSubcommands([
    Command.make(
      "ls",
      { path, json, timeout },
      verb(() => import("./Files.ts").then(({ ls }) => ls))
    ).pipe(Command.withDescription("List a folder")),
    Command.make(
      "stat",
      { path, json, timeout },
      verb(() => import("./Files.ts").then(({ stat }) => stat))
    ).pipe(Command.withDescription("What is known of one file or folder"))
  ])
)

const file = Argument.String("file").pipe(Argument.withDescription("A .sec file, or - for stdin"))
const sec = Command.make("sec").pipe(
  Command.withDescription("Credential files"),
  Command.withSubcommands([
    Command.make(
      "new",
      { out: text("out", "FILE", "Where to put it"), json, timeout },
      verb(() => import("./Sec.ts").then(({ make }) => make))
    ).pipe(Command.withDescription("Write a fresh credential file for one more device")),
    Command.make(
      "show",
      { file, keyFile, json, reveal: on("reveal", "Print secrets too") },
      verb(() => import("./Sec.ts").then(({ show }) => show))
    ).pipe(Command.withDescription("What a credential file says, without its secrets")),
    Command.make(
      "verify",
      { file, keyFile, json },
      verb(() => import("./Sec.ts").then(({ verify }) => verify))
    ).pipe(Command.withDescription("Whether a credential file can be used now"))
  ])
)

const pair = Command.make(
  "pair",
  { file, keyFile, name: deviceName, json, timeout },
  verb(() => import("./Pair.ts").then(({ run }) => run))
).pipe(Command.withDescription("Make this device one of the server's, with a credential file"))

const device = Argument.String("device").pipe(Argument.withDescription("Its id, the first digits of it, or its name"))
const devices = Command.make("devices").pipe(
  Command.withDescription("Who may come in"),
  Command.withSubcommands([
    Command.make(
      "ls",
      { json, timeout },
      verb(() => import("./Devices.ts").then(({ ls }) => ls))
    ).pipe(Command.withDescription("List devices")),
    Command.make(
      "rename",
      { device, name: Argument.String("name"), json, timeout },
      verb(() => import("./Devices.ts").then(({ rename }) => rename))
    ).pipe(Command.withDescription("Give a device another name")),
    Command.make(
      "revoke",
      { device, json, timeout },
      verb(() => import("./Devices.ts").then(({ revoke }) => revoke))
    ).pipe(Command.withDescription("Lock a device out, at once and for good"))
  ])
)

const status = Command.make(
  "status",
  { json, timeout },
  verb(() => import("./Status.ts").then(({ status }) => status))
).pipe(Command.withDescription("How the tier on this home, or this client's server, is doing"))

const ping = Command.make(
  "ping",
  {
    count: Flag.Int("count").pipe(Flag.withMetavar("N"), Flag.withDescription("Round trips"), Flag.withDefault(4)),
    json,
    timeout
  },
  verb(() => import("./Status.ts").then(({ ping }) => ping))
).pipe(Command.withDescription("Round trips to the server, all layers included"))

const doctor = Command.make(
  "doctor",
  { json, timeout },
  verb(() => import("./Doctor.ts").then(({ run }) => run))
).pipe(Command.withDescription("What works on this host and in this home, what does not, and what to do"))

const version = Command.make(
  "version",
  { json },
  verb(() => import("./Version.ts").then(({ run }) => run))
).pipe(Command.withDescription("What is installed here"))

export const command = root.pipe(
  Command.withSubcommands([up, chat, client, files, pair, devices, sec, status, ping, doctor, server, llm, version])
)
