/**
 * A small internet: one wire with public hosts on it, and places behind NATs. Nothing here knows ClawChat.
 *
 * The wire is 203.0.113.0/24. A place is one host and the boxes between it and the wire, the innermost first.
 */
import { connect, type End, Host, plug } from "./Namespaces.ts"
import { type Behaviour, type Cone, Nat, type Ports } from "./Nat.ts"

/** What stands between a host and the wire. */
export type Kind = "none" | `${Cone} ${Ports}` | "symmetric" | "carrier" | "blocked"

export const KINDS: ReadonlyArray<Kind> = [
  "none",
  "full-cone preserved",
  "full-cone random",
  "address-restricted preserved",
  "address-restricted random",
  "port-restricted preserved",
  "port-restricted random",
  "carrier",
  "symmetric",
  "blocked"
]

const cone = (kind: Cone, ports: Ports): Behaviour => ({ type: "cone", cone: kind, ports })

const BOXES: Readonly<Record<Kind, ReadonlyArray<Behaviour>>> = {
  none: [],
  "full-cone preserved": [cone("full-cone", "preserved")],
  "full-cone random": [cone("full-cone", "random")],
  "address-restricted preserved": [cone("address-restricted", "preserved")],
  "address-restricted random": [cone("address-restricted", "random")],
  "port-restricted preserved": [cone("port-restricted", "preserved")],
  "port-restricted random": [cone("port-restricted", "random")],
  // The customer's router and the carrier's (RFC 6888: endpoint-independent mapping), which draws ports from its pool.
  carrier: [cone("port-restricted", "preserved"), cone("port-restricted", "random")],
  symmetric: [{ type: "symmetric" }],
  blocked: [{ type: "blocked" }]
}

/** Inside networks, the innermost first: a home's, and the space between carriers and customers (RFC 6598). */
const INSIDE = ["192.168.7", "100.64.7"]
const WIRE = "203.0.113"

export interface Place {
  readonly kind: Kind
  readonly host: Host
  /** The host's own address. */
  readonly address: string
  /** Where the wire sees it. */
  readonly outside: string
  readonly nats: ReadonlyArray<Nat>
  /** The end at the wire's side: cut there, everything behind it is cut. */
  readonly uplink: End
  /** The outermost box, or the host itself where there is none, gets another address on the wire. */
  readonly moveTo: (outside: string) => Promise<void>
  /** Takes the whole place away. */
  readonly end: () => Promise<void>
}

export class Internet {
  readonly #wire: Host
  readonly #hosts: Array<Host>
  #ports = 0
  #addresses = 10

  private constructor(wire: Host) {
    this.#wire = wire
    this.#hosts = [wire]
  }

  static async make(): Promise<Internet> {
    const wire = await Host.make("wire")
    await wire.sh("ip link add br0 type bridge forward_delay 0 && ip link set br0 up")
    return new Internet(wire)
  }

  /** An address on the wire that nobody has had. */
  address(): string {
    return `${WIRE}.${this.#addresses++}`
  }

  /** A public host with its addresses on the wire. */
  async host(name: string, addresses: ReadonlyArray<string> = [this.address()]): Promise<Host> {
    const host = await this.#host(name)
    await this.#join(host, "wan", addresses)
    return host
  }

  async place(name: string, kind: Kind): Promise<Place> {
    const host = await this.#host(`${name} (${kind})`)
    const hosts = [host]
    const nats: Array<Nat> = []
    let address: string | undefined
    for (const [level, behaviour] of BOXES[kind].entries()) {
      const box = await this.#host(`${name} (${kind}), box ${level + 1}`)
      const inner = hosts.at(-1) ?? host
      const network = INSIDE[level] ?? `10.${level}.0`
      await connect(
        { host: inner, name: "wan", address: `${network}.2/24` },
        { host: box, name: "lan", address: `${network}.1/24` }
      )
      await inner.sh(`ip route add default via ${network}.1`)
      address ??= `${network}.2`
      nats.push(await Nat.make(box, behaviour))
      hosts.push(box)
    }
    const edge = hosts.at(-1) ?? host
    const outside = this.address()
    const uplink = await this.#join(edge, "wan", [outside])
    const outermost = nats.at(-1)
    return {
      kind,
      host,
      address: address ?? outside,
      outside,
      nats,
      uplink,
      moveTo: async (moved) => {
        if (outermost !== undefined) await outermost.moveTo(`${moved}/24`)
        else await host.sh(`ip -4 addr flush dev wan && ip addr add ${moved}/24 dev wan`)
      },
      end: async () => {
        for (const one of hosts) await one.end()
      }
    }
  }

  /** Takes a place off the wire, or puts it back. */
  cut(place: Place): Promise<string> {
    return plug(place.uplink, "out")
  }

  async heal(place: Place): Promise<void> {
    await plug(place.uplink, "in")
  }

  async end(): Promise<void> {
    await Promise.all(this.#hosts.map((host) => host.end()))
  }

  async #host(name: string): Promise<Host> {
    const host = await Host.make(name)
    this.#hosts.push(host)
    return host
  }

  async #join(host: Host, name: string, addresses: ReadonlyArray<string>): Promise<End> {
    const port = `p${this.#ports++}`
    const [first, ...more] = addresses
    const uplink = { host: this.#wire, name: port }
    await connect(uplink, { host, name, ...(first === undefined ? {} : { address: `${first}/24` }) })
    await this.#wire.sh(`ip link set ${port} master br0`)
    for (const address of more) await host.sh(`ip addr add ${address}/24 dev ${name}`)
    return uplink
  }
}
