/**
 * Kernel NATs that are what they claim. `masquerade` alone keeps the port and lets in answers only: endpoint-independent
 * mapping, port-restricted. Fully random, it is symmetric. The rest is made of three tables beside it that learn what left:
 * which outside address an inside one has (`forth`), who is behind an outside port (`back`), and whom it has spoken to (`heard`).
 *
 * Terms of RFC 4787: mapping and filtering, each endpoint-independent, address-dependent, or address-and-port-dependent.
 */
import type { Host } from "./Namespaces.ts"

export type Cone = "full-cone" | "address-restricted" | "port-restricted"
export type Ports = "preserved" | "random"

/** One box that translates: from its interface `lan` to its interface `wan`. */
export type Behaviour =
  | { readonly type: "cone"; readonly cone: Cone; readonly ports: Ports }
  | { readonly type: "symmetric" }
  /** Translates as the others do, but lets no UDP through. */
  | { readonly type: "blocked" }

/** Names whom an inbound datagram from a stranger reaches; answers need no rule. */
const DOOR: Readonly<Record<Cone, string>> = {
  "full-cone": `iifname "wan" dnat ip to udp dport map @back`,
  "address-restricted": `iifname "wan" udp dport . ip saddr @heard dnat ip to udp dport map @back`,
  "port-restricted": ""
}

const PICK: Readonly<Record<Ports, string>> = { preserved: "masquerade", random: "masquerade random,fully-random" }

/** What survives a packet: five minutes, so that a test sees the kernel's own timeouts only. */
const LIFE = "flags dynamic,timeout; timeout 5m; size 4096"

/** Closes a box to what nobody asked for, without a word: an answer would tell, and a trace in conntrack would move the next mapping. */
const CLOSED = `
  chain closed { type filter hook input priority filter; iifname "wan" ct state new drop; }
  chain through { type filter hook forward priority filter; iifname "wan" ct state new ct status ! dnat drop; }`

const cone = (kind: Cone, ports: Ports): string => `
  map forth { type ipv4_addr . inet_service : ipv4_addr . inet_service; ${LIFE}; }
  map back { type inet_service : ipv4_addr . inet_service; ${LIFE}; }
  set heard { type inet_service . ipv4_addr; ${LIFE}; }
  chain in {
    type nat hook prerouting priority dstnat
    ${DOOR[kind]}
  }
  chain out {
    type nat hook postrouting priority srcnat
    ${ports === "random" ? `oifname "wan" snat ip to ip saddr . udp sport map @forth` : ""}
    oifname "wan" ${PICK[ports]}
  }
  chain learn {
    type filter hook postrouting priority srcnat + 50
    oifname "wan" meta l4proto udp ct direction original jump note
  }
  chain note {
    ct original protocol 17 update @forth { ct original ip saddr . ct original proto-src : ip saddr . udp sport }
    update @back { udp sport : ct original ip saddr . ct original proto-src }
    update @heard { udp sport . ip daddr }
  }${CLOSED}`

const rules = (behaviour: Behaviour): string => {
  switch (behaviour.type) {
    case "cone":
      return cone(behaviour.cone, behaviour.ports)
    case "symmetric":
      return `
  chain out { type nat hook postrouting priority srcnat; oifname "wan" ${PICK.random}; }${CLOSED}`
    case "blocked":
      return `
  chain out { type nat hook postrouting priority srcnat; oifname "wan" masquerade; }
  chain none { type filter hook forward priority filter - 1; meta l4proto udp counter drop; }${CLOSED}`
  }
}

export class Nat {
  readonly host: Host
  /** Mappings of an earlier zone are as good as gone: nothing finds them. */
  #zone = 0
  #behaviour: Behaviour

  private constructor(host: Host, behaviour: Behaviour) {
    this.host = host
    this.#behaviour = behaviour
  }

  /** Makes a router of a host that has `lan` and `wan`. */
  static async make(host: Host, behaviour: Behaviour): Promise<Nat> {
    const nat = new Nat(host, behaviour)
    await host.sh("echo 1 > /proc/sys/net/ipv4/ip_forward")
    await nat.#load()
    return nat
  }

  /** Forgets every mapping, as a router does that was switched off and on; the next ones have other ports. */
  async forget(): Promise<void> {
    if (this.#behaviour.type === "cone") this.#behaviour = { ...this.#behaviour, ports: "random" }
    await this.#load()
  }

  /** Gives the box another address outside, with its prefix, instead of all that it had. */
  async moveTo(address: string): Promise<void> {
    await this.host.sh(`ip -4 addr flush dev wan && ip addr add ${address} dev wan`)
    await this.forget()
  }

  #load(): Promise<string> {
    this.#zone++
    return this.host.nft(`
table ip nat
delete table ip nat
table ip nat {
  chain zone { type filter hook prerouting priority raw; ct zone set ${this.#zone}; }${rules(this.#behaviour)}
}`)
  }
}
