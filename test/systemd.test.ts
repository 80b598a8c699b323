import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Firewall from "../src/domain/Firewall.ts"
import * as HomePaths from "../src/domain/HomePaths.ts"
import * as Settings from "../src/domain/Settings.ts"
import * as Doctor from "../src/programs/cli/Doctor.ts"

const folder = Path.resolve(import.meta.dirname, "../systemd")
const units = Fs.readdirSync(folder).filter((name) => /\.(service|path)$/.test(name))
const textOf = (name: string) => Fs.readFileSync(Path.join(folder, name), "utf8")

const isThere = (tool: string) => ChildProcess.spawnSync(tool, ["--version"]).status === 0
const hasAnalyze = isThere("systemd-analyze")
const hasSysusers = isThere("systemd-sysusers")
const hasTmpfiles = isThere("systemd-tmpfiles")
const without = (tool: string, has: boolean) => (has ? "" : ` (skipped: ${tool} is not here)`)

describe(`systemd units${without("systemd-analyze", hasAnalyze)}`, () => {
  // The programs are not installed here, so the copies start /bin/true instead.
  const copies = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-units-"))
  afterAll(() => Fs.rmSync(copies, { recursive: true }))
  for (const unit of units) {
    const text = textOf(unit).replace(/^(Exec\w+=-?)\S+/gm, "$1/bin/true")
    Fs.writeFileSync(Path.join(copies, unit), text)
  }
  const analyze = (...parameters: ReadonlyArray<string>) =>
    ChildProcess.spawnSync("systemd-analyze", parameters, {
      encoding: "utf8",
      env: { ...process.env, SYSTEMD_UNIT_PATH: `${copies}:`, SYSTEMD_COLORS: "0" }
    })

  it.skipIf(!hasAnalyze)("are accepted without a word", () => {
    const { status, stderr, stdout } = analyze("verify", "--man=no", ...units.map((unit) => Path.join(copies, unit)))
    assert.strictEqual(stdout + stderr, "")
    assert.strictEqual(status, 0)
  })

  it.skipIf(!hasAnalyze)("a mistake in a unit would be seen", () => {
    const path = Path.join(copies, "clawchat-broken.service")
    Fs.writeFileSync(path, "[Service]\nExecStart=/bin/true\nNoNewPriviledges=yes\n")
    const { stderr } = analyze("verify", "--man=no", path)
    Fs.rmSync(path)
    assert.include(stderr, "NoNewPriviledges")
  })

  for (const unit of units.filter((name) => name.endsWith(".service"))) {
    it.skipIf(!hasAnalyze)(`${unit} is exposed at most 2.0`, () => {
      const { status, stderr } = analyze("security", "--offline=true", "--threshold=20", Path.join(copies, unit))
      assert.strictEqual(status, 0, stderr)
    })
  }
})

describe("what the units promise", () => {
  const valuesOf = (unit: string, name: string) =>
    textOf(unit)
      .split("\n")
      .flatMap((line) => (line.startsWith(`${name}=`) ? [line.slice(name.length + 1)] : []))

  it("each tier is a user of its own, not root, and sees only its part", () => {
    assert.deepStrictEqual(valuesOf("clawchat-server.service", "User"), ["openclaw"])
    assert.deepStrictEqual(valuesOf("clawchat-llm.service", "User"), ["openclaw-llm"])
    assert.include(valuesOf("clawchat-server.service", "InaccessiblePaths"), "-/var/lib/clawchat/llm")
    assert.deepStrictEqual(valuesOf("clawchat-llm.service", "TemporaryFileSystem"), ["/var/lib/clawchat:mode=0755"])
    assert.deepStrictEqual(valuesOf("clawchat-llm.service", "BindPaths"), [
      "/var/lib/clawchat/llm",
      "/var/lib/clawchat/data",
      "/var/lib/clawchat/llm/link:/var/lib/clawchat/identity"
    ])
  })

  it("variables that units set are settings, and no secret is among them", () => {
    for (const unit of units) {
      for (const assignment of valuesOf(unit, "Environment")) {
        const name = assignment.split("=")[0] ?? ""
        assert.include(Settings.variables, name)
        assert.notInclude(Settings.secretVariables, name)
      }
    }
  })

  it("no core dumps, no privileges, restart on failure", () => {
    for (const unit of ["clawchat-server.service", "clawchat-llm.service", "clawchat-rendezvous.service"]) {
      assert.deepStrictEqual(valuesOf(unit, "LimitCORE"), ["0"])
      assert.deepStrictEqual(valuesOf(unit, "CapabilityBoundingSet"), [""])
      assert.deepStrictEqual(valuesOf(unit, "NoNewPrivileges"), ["yes"])
      assert.deepStrictEqual(valuesOf(unit, "Restart"), ["on-failure"])
    }
  })

  it("the rendezvous is a user of its own with a home of its own, and sees no other tier's", () => {
    const unit = "clawchat-rendezvous.service"
    assert.deepStrictEqual(valuesOf(unit, "User"), ["clawchat-rendezvous"])
    assert.deepStrictEqual(valuesOf(unit, "StateDirectory"), ["clawchat-rendezvous"])
    assert.deepStrictEqual(valuesOf(unit, "StateDirectoryMode"), ["0700"])
    assert.deepStrictEqual(valuesOf(unit, "Environment"), ["CLAWCHAT_HOME=/var/lib/clawchat-rendezvous"])
    assert.include(valuesOf(unit, "InaccessiblePaths"), "-/var/lib/clawchat")
    assert.include(textOf("clawchat.sysusers.conf"), "u clawchat-rendezvous ")
  })

  it("the firewall has one right, comes before the network, and after a filter whose start flushes every table", () => {
    const unit = "clawchat-firewall.service"
    assert.deepStrictEqual(valuesOf(unit, "CapabilityBoundingSet"), ["CAP_NET_ADMIN"])
    assert.deepStrictEqual(valuesOf(unit, "DefaultDependencies"), ["no"])
    assert.deepStrictEqual(valuesOf(unit, "Before"), ["network-pre.target"])
    for (const name of ["After", "PartOf", "ReloadPropagatedFrom"]) {
      assert.deepStrictEqual(valuesOf(unit, name), ["nftables.service"], name)
    }
    assert.deepStrictEqual(valuesOf(unit, "WantedBy"), ["multi-user.target nftables.service"])
    assert.deepStrictEqual(valuesOf(unit, "ExecReload"), valuesOf(unit, "ExecStart"))
    for (const tier of ["clawchat-server.service", "clawchat-rendezvous.service"]) {
      assert.include(valuesOf(tier, "After")[0], unit)
    }
  })

  it("tiers start when changes of their link are watched for", () => {
    for (const tier of ["clawchat-server.service", "clawchat-llm.service"]) {
      assert.include(valuesOf(tier, "After")[0], "clawchat-link.path")
      assert.include(valuesOf(tier, "Wants")[0], "clawchat-link.path clawchat-link.service")
    }
  })

  it("docs/INSTALL.md installs and enables what a server needs", () => {
    const steps = Fs.readFileSync(Path.resolve(folder, "../docs/INSTALL.md"), "utf8")
    for (const name of Fs.readdirSync(folder)) assert.include(steps, `systemd/${name}`)
    assert.match(steps, /^ {4}systemctl enable --now clawchat-firewall clawchat-llm clawchat-server$/m)
    for (const name of ["clawchat-link", "clawchat.nft"]) {
      const path = `/usr/lib/clawchat/${name}`
      assert.include(steps, ` systemd/${name} ${path}\n`)
      assert.isTrue(units.some((unit) => textOf(unit).includes(path)))
    }
  })

  it("the server writes to folders of its own, and the home is root's", () => {
    const unit = "clawchat-server.service"
    const folders = valuesOf(unit, "StateDirectory").flatMap((value) => value.split(" "))
    const { config, identity, logs, run, security } = HomePaths.server("clawchat")
    assert.deepStrictEqual(folders, [config, identity, logs, run, security])
    assert.deepStrictEqual(valuesOf(unit, "StateDirectoryMode"), ["0700"])
    assert.deepStrictEqual(valuesOf(unit, "ReadWritePaths"), ["/var/lib/clawchat/data"])
  })
})

const hasNft = isThere("nft") && ChildProcess.spawnSync("unshare", ["-n", "nft", "add table inet t"]).status === 0

describe(`the rules of the firewall${hasNft ? "" : " (skipped: needs root, unshare and nft)"}`, () => {
  const rules = Path.join(folder, "clawchat.nft")
  const within = (script: string) => {
    const { status, stderr, stdout } = ChildProcess.spawnSync("unshare", ["-n", "sh", "-c", script, "sh", rules], {
      encoding: "utf8"
    })
    assert.deepInclude({ status, stderr }, { status: 0, stderr: "" })
    return stdout
  }

  it.skipIf(!hasNft)("are accepted without a word, and change nothing when they are only checked", () => {
    assert.strictEqual(within('nft -c -f "$1" && nft list ruleset'), "")
  })

  it.skipIf(!hasNft)("are a table of their own, which may be loaded twice and leaves no trace", () => {
    const other = 'nft "add table inet other; add chain inet other input { type filter hook input priority 0; }"'
    const twice = within(`${other}; nft -f "$1" && nft -f "$1" && nft list tables`)
    assert.strictEqual(twice, "table inet other\ntable inet clawchat\n")
    const gone = within(`${other}; nft list ruleset; nft -f "$1" && nft delete table inet clawchat; nft list ruleset`)
    const half = gone.length / 2
    assert.strictEqual(gone.slice(half), gone.slice(0, half))
    assert.isAbove(half, 0)
  })

  it.skipIf(!hasNft)("doctor reads them as silence", () => {
    const json = within('nft -f "$1" && nft -j list ruleset')
    assert.strictEqual(Firewall.ofNft(json), "drop")
  })
})

const isRoot = process.platform === "linux" && process.geteuid?.() === 0
const canMakeRoot = isRoot && hasSysusers && hasTmpfiles
const why = " (skipped: needs root, systemd-sysusers and systemd-tmpfiles)"

describe(`users and folders${canMakeRoot ? "" : why}`, () => {
  it.skipIf(!canMakeRoot)("are made without a word, twice", () => {
    const root = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-root-"))
    Fs.chmodSync(root, 0o755)
    for (const name of ["etc", "home"]) Fs.mkdirSync(Path.join(root, name))
    const make = (tool: string, ...parameters: ReadonlyArray<string>) =>
      ChildProcess.spawnSync(tool, [`--root=${root}`, ...parameters], { encoding: "utf8" })
    for (const _ of [1, 2]) {
      const users = make("systemd-sysusers", Path.join(folder, "clawchat.sysusers.conf"))
      assert.strictEqual(users.status, 0, users.stderr)
      const folders = make("systemd-tmpfiles", "--create", Path.join(folder, "clawchat.tmpfiles.conf"))
      assert.deepInclude(folders, { status: 0, stdout: "", stderr: "" })
    }

    const ids = (file: string) =>
      new Map(
        Fs.readFileSync(Path.join(root, "etc", file), "utf8")
          .trim()
          .split("\n")
          .map((line) => line.split(":"))
          .map(([name = "", , id]) => [Number(id), name] as const)
      )
    const users = ids("passwd").set(0, "root")
    const groups = ids("group").set(0, "root")
    const described = (name: string) => {
      const { gid, mode, uid } = Fs.statSync(Path.join(root, name))
      return `${(mode & 0o7777).toString(8)} ${users.get(uid)} ${groups.get(gid)}`
    }
    const home = "var/lib/clawchat"
    assert.deepStrictEqual(
      Object.fromEntries(
        ["", "/config", "/identity", "/llm", "/llm/link", "/data"].map((name) => [name, described(home + name)])
      ),
      {
        "": "755 root root",
        "/config": "700 openclaw openclaw",
        "/identity": "700 openclaw openclaw",
        "/llm": "700 openclaw-llm openclaw-llm",
        "/llm/link": "700 openclaw-llm openclaw-llm",
        "/data": "2770 openclaw clawchat"
      }
    )
    assert.strictEqual(Fs.readlinkSync(Path.join(root, home, "config/server.yaml")), "/etc/clawchat/server.yaml")
    assert.strictEqual(Fs.readlinkSync(Path.join(root, "home/openclaw/clawchat")), "/var/lib/clawchat")

    // Doctor has nothing against it, and finds what is open.
    const found = () => Effect.runSync(Doctor.home(Path.join(root, home)))
    assert.deepInclude(found(), { verdict: "ok" })
    const identity = Path.join(root, home, "identity")
    Fs.chmodSync(identity, 0o755)
    assert.deepInclude(found(), { verdict: "fail" })
    assert.match(found().detail, new RegExp(`: run chmod 700 ${identity}$`))
    Fs.chmodSync(identity, 0o700)

    // Shared whatever the umask of whoever makes something there.
    const shared = Path.join(root, home, "data")
    const made = ChildProcess.spawnSync("sh", ["-c", "umask 077; mkdir below; : > below/file"], { cwd: shared })
    assert.strictEqual(made.status, 0)
    assert.strictEqual(described(`${home}/data/below`), "2770 root clawchat")
    assert.strictEqual(described(`${home}/data/below/file`), "660 root clawchat")
    Fs.rmSync(root, { recursive: true })
  })
})

const canSwitchUsers =
  isRoot &&
  isThere("setpriv") &&
  ChildProcess.spawnSync("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", "true"]).status === 0

describe(`the link's carrier${canSwitchUsers ? "" : " (skipped: needs root and setpriv)"}`, () => {
  const server = 61_001
  const llm = 61_002
  const newHome = () => {
    const home = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-link-"))
    Fs.chmodSync(home, 0o711)
    const make = (name: string, user: number) => {
      Fs.mkdirSync(Path.join(home, name), { mode: 0o700 })
      Fs.chownSync(Path.join(home, name), user, user)
    }
    make("identity", server)
    make("llm", llm)
    make("llm/link", llm)
    return home
  }
  const put = (path: string, text: string, user: number) => {
    Fs.writeFileSync(path, text, { mode: 0o600 })
    Fs.chownSync(path, user, user)
  }
  const carry = (home: string, quiet = 0, PATH = process.env.PATH) => {
    const script = textOf("clawchat-link").replaceAll("openclaw-llm", `${llm}`).replaceAll("openclaw", `${server}`)
    const options = { encoding: "utf8", cwd: "/", env: { PATH } } as const
    return ChildProcess.spawnSync("sh", ["-c", script, "sh", home, `${quiet}`], options)
  }

  it.skipIf(!canSwitchUsers)("gives each user its own 0600 copy, and the server's link wins", () => {
    const home = newHome()
    put(Path.join(home, "identity/llm.link"), "link", server)
    put(Path.join(home, "identity/server.pub"), "server", server)
    put(Path.join(home, "llm/link/llm.link"), "other", llm)
    put(Path.join(home, "llm/link/llm.pub"), "llm", llm)
    assert.deepInclude(carry(home), { status: 0, stdout: "", stderr: "" })
    for (const [name, text, user] of [
      ["llm/link/llm.link", "link", llm],
      ["llm/link/server.pub", "server", llm],
      ["identity/llm.pub", "llm", server]
    ] as const) {
      const stats = Fs.statSync(Path.join(home, name))
      assert.strictEqual(Fs.readFileSync(Path.join(home, name), "utf8"), text)
      assert.deepStrictEqual([stats.uid, stats.mode & 0o777], [user, 0o600])
    }
    const before = Fs.statSync(Path.join(home, "identity/llm.pub")).ino
    assert.strictEqual(carry(home).status, 0)
    assert.strictEqual(Fs.statSync(Path.join(home, "identity/llm.pub")).ino, before)
    assert.deepStrictEqual(Fs.readdirSync(Path.join(home, "llm/link")).sort(), ["llm.link", "llm.pub", "server.pub"])
    Fs.rmSync(home, { recursive: true })
  })

  it.skipIf(!canSwitchUsers)("carries what comes while it runs, for nobody would start it again", () => {
    const home = newHome()
    const waits = Path.join(home, "waits")
    const late = Path.join(home, "late")
    put(late, "link", server)
    Fs.mkdirSync(waits)
    // The first pause is when the server writes.
    const pause = `#!/bin/sh\nif [ -e ${late} ]; then mv ${late} ${home}/identity/llm.link; fi\necho >> ${home}/pauses\n`
    Fs.writeFileSync(Path.join(waits, "sleep"), pause, { mode: 0o755 })
    put(Path.join(home, "llm/link/llm.pub"), "llm", llm)
    assert.deepInclude(carry(home, 3, `${waits}:${process.env.PATH}`), { status: 0, stdout: "", stderr: "" })
    assert.strictEqual(Fs.readFileSync(Path.join(home, "llm/link/llm.link"), "utf8"), "link")
    assert.strictEqual(Fs.readFileSync(Path.join(home, "identity/llm.pub"), "utf8"), "llm")
    // One round carried, the next did too, and three were quiet.
    assert.strictEqual(Fs.readFileSync(Path.join(home, "pauses"), "utf8").length, 4)
    Fs.rmSync(home, { recursive: true })
  })

  it.skipIf(!canSwitchUsers)("a link in one user's folder gives nothing of root's or the other's away", () => {
    const home = newHome()
    const rootOnly = Path.join(home, "root-only")
    put(rootOnly, "root's", 0)
    put(Path.join(home, "identity/static.key"), "private", server)
    put(Path.join(home, "identity/llm.link"), "link", server)
    Fs.symlinkSync(rootOnly, Path.join(home, "llm/link/llm.pub"))
    Fs.symlinkSync(Path.join(home, "identity/static.key"), Path.join(home, "llm/link/llm.link"))
    carry(home)
    assert.isFalse(Fs.existsSync(Path.join(home, "identity/llm.pub")))
    assert.strictEqual(Fs.readFileSync(Path.join(home, "identity/static.key"), "utf8"), "private")
    assert.isTrue(Fs.lstatSync(Path.join(home, "llm/link/llm.link")).isFile())
    assert.strictEqual(Fs.readFileSync(rootOnly, "utf8"), "root's")
    Fs.rmSync(home, { recursive: true })
  })
})
