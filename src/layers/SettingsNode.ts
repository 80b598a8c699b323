/**
 * Settings from the process: its environment, `.env` files and one YAML file.
 *
 * The home: `--home`, `CLAWCHAT_HOME` (environment, then `.env` of the current folder), `home` of the YAML file, default.
 * The YAML file: `--config`, `CLAWCHAT_CONFIG`, else `config/server.yaml` (server, llm) or `client.yaml` (client) of the home.
 * Values, strongest first: flags, environment, `<home>/config/.env`, `<home>/.env`, `.env` of the current folder, YAML.
 * Relative paths mean the current folder in flags, the environment and its `.env`, and the home in the home's files.
 * An empty variable counts as not set.
 */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EnvFile from "../domain/EnvFile.ts"
import * as GivenSettings from "../domain/GivenSettings.ts"
import * as HomePaths from "../domain/HomePaths.ts"
import * as SettingNames from "../domain/SettingNames.ts"
import * as Table from "../domain/Settings.ts"
import { type Loaded, type LoadOptions, Settings, SettingsError } from "../services/Settings.ts"
import * as SettingsYaml from "./SettingsYaml.ts"

/** The process as settings see it. */
export interface Host extends HomePaths.HostFacts {
  readonly currentFolder: string
}

const MAX_FILE_BYTES = 256 * 1024

interface Found {
  readonly text: string
  readonly stats: Fs.Stats
}

/** The text of a plain file, `undefined` where there is none, or why it cannot be read. Never waits on a FIFO. */
const readText = async (path: string): Promise<Found | string | undefined> => {
  let handle: Fs.promises.FileHandle | undefined
  try {
    if (!(await Fs.promises.stat(path)).isFile()) return "is not a plain file"
    handle = await Fs.promises.open(path, Fs.constants.O_RDONLY | (Fs.constants.O_NONBLOCK ?? 0))
    const stats = await handle.stat()
    if (!stats.isFile()) return "is not a plain file"
    if (stats.size > MAX_FILE_BYTES) return `is larger than ${MAX_FILE_BYTES} bytes`
    const bytes = Buffer.alloc(MAX_FILE_BYTES + 1)
    let length = 0
    for (;;) {
      const { bytesRead } = await handle.read(bytes, length, bytes.length - length)
      if (bytesRead === 0) break
      length += bytesRead
      if (length > MAX_FILE_BYTES) return `is larger than ${MAX_FILE_BYTES} bytes`
    }
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, length))
    return text.includes("\0") ? "is not text" : { text, stats }
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : ""
    if (code === "ENOENT" || code === "ENOTDIR") return undefined
    return code.startsWith("ERR_ENCODING") ? "is not UTF-8 text" : `cannot be read (${code})`
  } finally {
    await handle?.close()
  }
}

const load = async (host: Host, options: LoadOptions): Promise<Loaded | SettingsError> => {
  const { role, flags = {} } = options
  const problems: Array<string> = []
  const warnings: Array<string> = []
  const given: Array<GivenSettings.Given> = []

  const resolveFrom = (folder: string) => (path: string) =>
    Path.resolve(folder, path === "~" || /^~[\\/]/.test(path) ? Path.join(host.userHome, path.slice(1)) : path)
  const fromHere = resolveFrom(host.currentFolder)
  const labelOf = (path: string): string => {
    const below = Path.relative(host.currentFolder, path)
    return below.startsWith("..") || Path.isAbsolute(below) ? path : below
  }

  const readEnv = async (path: string, source: "user .env" | "home .env") => {
    const found = await readText(path)
    const label = labelOf(path)
    if (found === undefined) return undefined
    if (typeof found === "string") {
      problems.push(`${label}: ${found}`)
      return undefined
    }
    const user = process.geteuid?.()
    if (host.platform !== "win32" && user !== undefined) {
      const { mode, uid } = found.stats
      if (source === "user .env" && ((uid !== user && uid !== 0) || (mode & 0o002) !== 0)) {
        warnings.push(`${label}: ignored, others may write it`)
        return undefined
      }
      if ((mode & 0o077) !== 0 && Table.secretVariables.some((name) => found.text.includes(name))) {
        warnings.push(`${label}: holds keys and others have access; run: chmod 600 ${path}`)
      }
    }
    const parsed = EnvFile.parse(found.text)
    for (const { line, message, name } of parsed.problems) {
      problems.push(`${label}:${line}: ${name === undefined ? "" : `${name}: `}${message}`)
    }
    for (const { line, name } of parsed.assignments) {
      if (name.startsWith("CLAWCHAT_") && !Table.variables.includes(name)) {
        problems.push(`${label}:${line}: ${name}: ${SettingNames.unknownVariable(name)}`)
      }
    }
    return { path, label, assignments: parsed.assignments }
  }

  // -- where to look --------------------------------------------------------------------------------------------------

  const here = await readEnv(Path.join(host.currentFolder, ".env"), "user .env")
  const locate = (flag: "home" | "config", variable: string) => {
    const typed = flags[flag]
    if (typed !== undefined) return { where: `--${flag}`, text: String(typed) }
    const inherited = host.environment[variable]
    if (inherited !== undefined && inherited !== "") return { where: `environment: ${variable}`, text: inherited }
    const written = here?.assignments.find(({ name, value }) => name === variable && value !== "")
    return written && { where: `${here?.label}:${written.line}: ${variable}`, text: written.value }
  }
  const isPath = (text: string): boolean => text.trim() !== "" && !/\p{Cc}/u.test(text)

  const homeGiven = locate("home", Table.HOME_VARIABLE)
  const standard = HomePaths.defaultHome(host)
  const isHomeNamed = homeGiven !== undefined && isPath(homeGiven.text) && homeGiven.text !== "auto"
  let home = isHomeNamed ? fromHere(homeGiven.text) : standard

  const configGiven = locate("config", Table.CONFIG_VARIABLE)
  const isConfigNamed = configGiven !== undefined && isPath(configGiven.text)
  if (configGiven !== undefined && !isConfigNamed) problems.push(`${configGiven.where}: expected a path`)
  const configFile = isConfigNamed
    ? fromHere(configGiven.text)
    : role === "client"
      ? HomePaths.client(home).configFile
      : HomePaths.server(home).configFile
  const config = await readText(configFile)
  const configLabel = labelOf(configFile)
  let yaml: ReadonlyArray<SettingsYaml.Value> = []
  if (config === undefined) {
    if (isConfigNamed) problems.push(`${configGiven.where}: there is no file ${GivenSettings.shown(configGiven.text)}`)
  } else if (typeof config === "string") problems.push(`${configLabel}: ${config}`)
  else {
    const parsed = await SettingsYaml.parse(config.text, configLabel)
    yaml = parsed.values
    problems.push(...parsed.problems)
  }
  const fromConfig = resolveFrom(Path.dirname(configFile))
  const homeInYaml = yaml.find(({ key }) => key === "home")?.text
  if (!isHomeNamed && homeInYaml !== undefined && isPath(homeInYaml) && homeInYaml !== "auto")
    home = fromConfig(homeInYaml)
  const fromHome = resolveFrom(home)

  // -- what they say --------------------------------------------------------------------------------------------------

  for (const [name, value] of Object.entries(flags)) {
    if (value === undefined || name === "config") continue
    const key = Table.keyOfFlag(name, role)
    if (key === undefined) problems.push(`--${name}: unknown flag`)
    else given.push({ key, text: String(value), source: "flag", where: `--${name}`, resolve: fromHere })
  }

  for (const [name, value] of Object.entries(host.environment)) {
    if (value === undefined || value === "") continue
    const key = Table.keyOfVariable(name)
    if (key !== undefined) {
      given.push({ key, text: value, source: "environment", where: `environment: ${name}`, resolve: fromHere })
    } else if (name.startsWith("CLAWCHAT_") && name !== Table.CONFIG_VARIABLE) {
      warnings.push(`environment: ${name}: ${SettingNames.unknownVariable(name)}`)
    }
  }

  const paths = HomePaths.envFiles(home)
  const isHereInHome = here !== undefined && paths.includes(here.path)
  const files = [
    ...(await Promise.all(paths.map((path) => (path === here?.path ? here : readEnv(path, "home .env"))))),
    isHereInHome ? undefined : here
  ].filter((file) => file !== undefined)
  for (const file of files) {
    const isHere = file === here
    for (const { line, name, value } of file.assignments) {
      const where = `${file.label}:${line}: ${name}`
      const isLocator = name === Table.HOME_VARIABLE || name === Table.CONFIG_VARIABLE
      if (value === "") continue
      if (isLocator && !isHere)
        problems.push(`${where}: comes too late in a file of the home; set it in the environment`)
      const key = Table.keyOfVariable(name)
      if (key === undefined) continue
      given.push({
        key,
        text: value,
        source: isHere && !isHereInHome ? "user .env" : "home .env",
        where,
        resolve: isHere ? fromHere : fromHome
      })
    }
  }

  for (const { key, line, text } of yaml) {
    given.push({
      key,
      text,
      source: "yaml",
      where: `${configLabel}:${line}: ${key}`,
      resolve: key === "home" ? fromConfig : fromHome
    })
  }

  const resolved = GivenSettings.resolve(role, home, given)
  problems.push(...resolved.problems)
  if (problems.length > 0) return new SettingsError({ problems })
  return {
    settings: resolved.values,
    configFile: config === undefined ? undefined : configFile,
    envFiles: files.map(({ path }) => path),
    origins: resolved.origins,
    warnings
  }
}

/** Settings of a given host; `layer` is the one for programs. */
export const layerFrom = (host: Host): Layer.Layer<Settings> =>
  Layer.succeed(Settings, {
    load: Effect.fn("Settings.load")((options: LoadOptions) =>
      Effect.promise(() => load(host, options)).pipe(
        Effect.flatMap((result) => (result instanceof SettingsError ? Effect.fail(result) : Effect.succeed(result)))
      )
    )
  })

/** The environment is read once, when the layer is built. */
export const layer: Layer.Layer<Settings> = Layer.unwrap(
  Effect.sync(() => {
    // Windows names variables without regard to case; a copy must be told.
    const pairs = Object.entries(process.env)
    const environment = process.platform === "win32" ? pairs.map(([name, value]) => [name.toUpperCase(), value]) : pairs
    return layerFrom({
      platform: process.platform,
      userHome: Os.homedir(),
      environment: Object.fromEntries(environment),
      currentFolder: process.cwd()
    })
  })
)
