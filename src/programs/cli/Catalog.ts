/**
 * The whole command line at one glance: names, flags, arguments, help. What a command does is loaded when it runs, so that
 * `--help` costs only this file.
 */

import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { memory, models, usage } from "./AssistantCatalog.ts"
import { cron } from "./CronCatalog.ts"
import { files } from "./FilesCatalog.ts"
import { history } from "./HistoryCatalog.ts"
import { json, number, on, root, text, timeout, verb } from "./Verb.ts"

const keyFile = text("key-file", "FILE", "The server's bootstrap key (else CLAWCHAT_BOOTSTRAP_KEY)")
const logFile = text("log-file", "FILE", "Where the log is kept, or none")
const deviceName = text("name", "NAME", "What the server's owner sees this device as (else the host's name)")
const answer = text(
  "answer",
  "FILE",
  "Where neither can reach the other: write this for the server, and wait 5 minutes"
)
const basePath = text("base-path", "FOLDER", "The folder below which clients see files")
const stun = Flag.String("stun").pipe(
  Flag.withMetavar("HOST:PORT"),
  Flag.withDescription("A STUN server, which tells the public address; may be repeated"),
  Flag.atLeast(0)
)
const conversation = Flag.String("conversation").pipe(
  Flag.withAlias("c"),
  Flag.withMetavar("NAME"),
  Flag.withDescription("The conversation to talk in"),
  Flag.withDefault("main")
)

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
    stun,
    rendezvous: text("rendezvous", "HOST:PORT", "A relay for devices that cannot reach this server directly"),
    turn: text("turn", "HOST:PORT", "A TURN server for them; its credentials stand in config/turn.credentials"),
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

const rendezvous = Command.make(
  "rendezvous",
  {
    port: number("port", "PORT", "UDP port of the socket (else that of the last run, else one of 49152-65535)"),
    bind: text("bind", "ADDRESS", "Address of the socket"),
    ip: text("ip", "ADDRESS", "Public address, for the line that servers need"),
    logFile,
    key: Argument.Literals("key", ["key"]).pipe(
      Argument.withDescription("Print the line that a server needs, and end"),
      Argument.optional
    )
  },
  verb(() => import("./Rendezvous.ts").then(({ run }) => run))
).pipe(Command.withDescription("A blind relay: carries sealed datagrams for those who have its tickets"))

const chatFlags = {
  conversation,
  sec: text("sec", "FILE", "Pair with this credential file first"),
  keyFile,
  name: deviceName,
  answer,
  timeout
}

const chat = Command.make(
  "chat",
  {
    ...chatFlags,
    json,
    quiet: on("quiet", "Say nothing of what the assistant does on the way"),
    follow: on("follow", "Print the answer that is being made, or that nobody has read, and end"),
    allow: Flag.String("allow").pipe(
      Flag.withMetavar("TOOL,TOOL"),
      Flag.withDescription("Tools that the assistant may call without asking; may be repeated"),
      Flag.atLeast(0)
    ),
    attach: Flag.String("attach").pipe(
      Flag.withMetavar("FILE"),
      Flag.withDescription("An image or a text that goes with the message; may be repeated"),
      Flag.atLeast(0)
    ),
    keep: on("keep", "Keep what could not be delivered; it is sent later, once: do not send it again"),
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
    { command: "git diff | clawchat chat -", description: "One message from stdin" },
    {
      command: 'clawchat chat --attach plan.png --allow file_write "Write down what it shows"',
      description: "With a file, and leave to write without asking"
    }
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

const draft = Argument.String("id").pipe(
  Argument.withDescription("The first digits of its id; none for all"),
  Argument.variadic()
)
const drafts = Command.make("drafts").pipe(
  Command.withDescription("Messages that are kept until they are delivered"),
  Command.withSubcommands([
    Command.make(
      "ls",
      { json },
      verb(() => import("./Drafts.ts").then(({ ls }) => ls))
    ).pipe(Command.withDescription("List them")),
    Command.make(
      "send",
      { draft, json, timeout },
      verb(() => import("./Drafts.ts").then(({ send }) => send))
    ).pipe(Command.withDescription("Deliver them now, and print the answers")),
    Command.make(
      "rm",
      { draft, all: on("all", "All of them") },
      verb(() => import("./Drafts.ts").then(({ rm }) => rm))
    ).pipe(Command.withDescription("Drop one: it is never sent"))
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
    ).pipe(Command.withDescription("Whether a credential file can be used now")),
    Command.make(
      "answer",
      { file: Argument.String("file").pipe(Argument.withDescription("An answer file, or - for stdin")), json },
      verb(() => import("./Answer.ts").then(({ take }) => take))
    ).pipe(Command.withDescription("On the server: open the way for the device that has written this answer file"))
  ])
)

const pair = Command.make(
  "pair",
  {
    file,
    keyFile,
    name: deviceName,
    answer,
    json,
    timeout
  },
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

const audit = Command.make(
  "audit",
  {
    since: text("since", "TIME", "Only what is newer: a duration such as 2h, or an ISO 8601 time (UTC)"),
    kind: Flag.String("kind").pipe(
      Flag.withMetavar("KIND"),
      Flag.withDescription("Only this kind (session.opened), or those of a group (session); may be repeated"),
      Flag.atLeast(0)
    ),
    limit: Flag.Int("limit").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("The newest so many, at most 10000"),
      Flag.withDefault(200)
    ),
    json: on("json", "Print JSON, one record a line"),
    timeout
  },
  verb(() => import("./Audit.ts").then(({ run }) => run))
).pipe(Command.withDescription("What happened at the server: who came, who was turned away, what changed"))

const compromised = Command.make(
  "compromised",
  { yes: on("yes", "Do it without asking"), json },
  verb(() => import("./Compromised.ts").then(({ run }) => run))
).pipe(Command.withDescription("Burn all keys: this device's, or on its home the server's, and begin anew"))

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
  {
    stun,
    lifetime: number("lifetime", "SECONDS", "Measure how long the NAT keeps an unused mapping, up to this"),
    json,
    timeout
  },
  verb(() => import("./Doctor.ts").then(({ run }) => run))
).pipe(Command.withDescription("What works on this host and in this home, what does not, and what to do"))

const version = Command.make(
  "version",
  { json },
  verb(() => import("./Version.ts").then(({ run }) => run))
).pipe(Command.withDescription("What is installed here"))

export const command = root.pipe(
  Command.withSubcommands([
    up,
    chat,
    client,
    drafts,
    history,
    memory,
    cron,
    usage,
    models,
    files,
    pair,
    devices,
    audit,
    compromised,
    sec,
    status,
    ping,
    doctor,
    server,
    llm,
    rendezvous,
    version
  ])
)
