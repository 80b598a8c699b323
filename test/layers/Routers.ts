/** Small home routers for tests, on real sockets: one that speaks PCP or NAT-PMP, and one that speaks UPnP. */
import * as Dgram from "node:dgram"
import { once } from "node:events"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"

export const HOST = "127.0.0.1"

export interface Behaviour {
  /** Protocols it knows; none: it stays silent. */
  readonly speaks: ReadonlyArray<"PCP" | "NAT-PMP">
  readonly outside: string
  /** Seconds that it grants at most. */
  readonly lifetime: number
  /** A result code instead of a mapping. */
  readonly refuse?: number
  /** The outside port; by default what is asked for. */
  readonly portFor?: (wanted: number) => number
  /** Changes an answer on its way, or sends several. */
  readonly spoil?: (answer: Buffer) => ReadonlyArray<Buffer>
}

/** Answers on UDP as a router would; `requests` is what came. */
export class ControlRouter {
  readonly requests: Array<Buffer> = []
  /** Outside port to inside port. */
  readonly mappings = new Map<number, number>()
  behaviour: Behaviour
  readonly #socket = Dgram.createSocket("udp4")
  #epoch = 0

  private constructor(behaviour: Behaviour) {
    this.behaviour = behaviour
    this.#socket.on("message", (bytes, { address, port }) => {
      this.requests.push(bytes)
      const answer = this.#answer(bytes)
      if (answer === undefined) return
      for (const one of this.behaviour.spoil?.(answer) ?? [answer]) this.#socket.send(one, port, address)
    })
  }

  static async start(behaviour: Partial<Behaviour> = {}, address = HOST, port = 0): Promise<ControlRouter> {
    const router = new ControlRouter({
      speaks: ["PCP", "NAT-PMP"],
      outside: "198.51.100.77",
      lifetime: 7200,
      ...behaviour
    })
    router.#socket.bind(port, address)
    await once(router.#socket, "listening")
    return router
  }

  get port(): number {
    return this.#socket.address().port
  }

  /** Forgets all, as routers do that are switched off and on. */
  reboot(): void {
    this.mappings.clear()
    this.#epoch = 0
  }

  /** Waits for the nth request, in all. */
  async heard(count: number): Promise<void> {
    while (this.requests.length < count) await once(this.#socket, "message")
  }

  close(): void {
    this.#socket.close()
  }

  #answer(bytes: Buffer): Buffer | undefined {
    const { speaks } = this.behaviour
    const version = bytes[0]
    if (version === 2) {
      if (speaks.includes("PCP")) return this.#pcp(bytes)
      // RFC 6886 section 3.5.
      return speaks.includes("NAT-PMP") ? this.#header(0x80 | (bytes[1] ?? 0), 1, 8) : undefined
    }
    return speaks.includes("NAT-PMP") ? this.#natPmp(bytes) : undefined
  }

  #map(inside: number, wanted: number, lifetime: number): { readonly port: number; readonly lifetime: number } {
    const port = this.behaviour.portFor?.(wanted) ?? wanted
    if (lifetime === 0) {
      for (const [outside, to] of this.mappings) if (to === inside) this.mappings.delete(outside)
      return { port, lifetime: 0 }
    }
    this.mappings.set(port, inside)
    return { port, lifetime: Math.min(lifetime, this.behaviour.lifetime) }
  }

  #pcp(bytes: Buffer): Buffer {
    const { outside, refuse = 0 } = this.behaviour
    const isMap = bytes[1] === 1
    const answer = Buffer.alloc(isMap ? 60 : 24)
    answer[0] = 2
    answer[1] = 0x80 | (bytes[1] ?? 0)
    answer[3] = refuse
    answer.writeUInt32BE(this.#epoch++, 8)
    if (!isMap) return answer
    bytes.copy(answer, 24, 24, 42)
    const { lifetime, port } =
      refuse === 0
        ? this.#map(bytes.readUInt16BE(40), bytes.readUInt16BE(42), bytes.readUInt32BE(4))
        : { lifetime: 30, port: 0 }
    answer.writeUInt32BE(lifetime, 4)
    answer.writeUInt16BE(port, 42)
    answer.fill(0xff, 54, 56)
    for (const [i, part] of outside.split(".").entries()) answer[56 + i] = Number(part)
    return answer
  }

  #natPmp(bytes: Buffer): Buffer | undefined {
    const { outside, refuse = 0 } = this.behaviour
    if (bytes[1] === 0) {
      const answer = this.#header(0x80, refuse, 12)
      for (const [i, part] of outside.split(".").entries()) answer[8 + i] = Number(part)
      return answer
    }
    if (bytes[1] !== 1) return this.#header(0x80 | (bytes[1] ?? 0), 5, 8)
    if (refuse !== 0) return this.#header(0x81, refuse, 8)
    const answer = this.#header(0x81, 0, 16)
    const { lifetime, port } = this.#map(bytes.readUInt16BE(4), bytes.readUInt16BE(6), bytes.readUInt32BE(8))
    bytes.copy(answer, 8, 4, 6)
    answer.writeUInt16BE(port, 10)
    answer.writeUInt32BE(lifetime, 12)
    return answer
  }

  #header(operation: number, code: number, length: number): Buffer {
    const answer = Buffer.alloc(length)
    answer[1] = operation
    answer.writeUInt16BE(code, 2)
    answer.writeUInt32BE(this.#epoch++, 4)
    return answer
  }
}

const SSDP_GROUP = "239.255.255.250"
const SSDP_PORT = 1900
const IGD = "urn:schemas-upnp-org:device:InternetGatewayDevice:2"
const WAN = "urn:schemas-upnp-org:service:WANIPConnection:2"

const description = `<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceType>${IGD}</deviceType><UDN>uuid:1</UDN>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:2</deviceType><UDN>uuid:2</UDN>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:2</deviceType><UDN>uuid:3</UDN>
<serviceList><service><serviceType>${WAN}</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<SCPDURL>/wan.xml</SCPDURL><controlURL>/control</controlURL><eventSubURL>/event</eventSubURL></service></serviceList>
</device></deviceList></device></deviceList></device></root>`

const envelope = (body: string): string =>
  `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>${body}</s:Body></s:Envelope>`

export interface UpnpBehaviour {
  readonly outside: string
  readonly portFor: (wanted: number) => number
  /** A UPnP error code instead of a mapping. */
  readonly refuse?: number
  /** Any answer at all. */
  readonly raw?: string
}

/** A UPnP InternetGatewayDevice:2 whose description is at `url`. */
export class UpnpRouter {
  readonly calls: Array<{ readonly action: string; readonly fields: Readonly<Record<string, string>> }> = []
  behaviour: UpnpBehaviour
  readonly #server: Http.Server

  private constructor(behaviour: UpnpBehaviour) {
    this.behaviour = behaviour
    this.#server = Http.createServer((request, response) => {
      let body = ""
      request.on("data", (chunk: Buffer) => {
        body += chunk.toString()
      })
      request.on("end", () => {
        response.setHeader("content-type", "text/xml")
        response.setHeader("connection", "close")
        if (request.method === "GET") response.end(description)
        else this.#control(body, response)
      })
    })
  }

  static async start(behaviour: Partial<UpnpBehaviour> = {}, address = HOST): Promise<UpnpRouter> {
    const router = new UpnpRouter({ outside: "198.51.100.78", portFor: (wanted) => wanted, ...behaviour })
    router.#server.listen(0, address)
    await once(router.#server, "listening")
    return router
  }

  get url(): URL {
    const { address, port } = this.#server.address() as AddressInfo
    return new URL(`http://${address}:${port}/root.xml`)
  }

  /** Answers searches by multicast on the network of its address (SSDP), until it is told to stop. */
  async announce(): Promise<() => void> {
    const socket = Dgram.createSocket({ type: "udp4", reuseAddr: true })
    socket.bind(SSDP_PORT)
    await once(socket, "listening")
    socket.addMembership(SSDP_GROUP, this.url.hostname)
    socket.on("message", (bytes, { address, port }) => {
      const [, wanted] = /^ST: *(\S+)/im.exec(bytes.toString("latin1")) ?? []
      if (!bytes.toString("latin1").startsWith("M-SEARCH") || wanted !== IGD) return
      const head = ["HTTP/1.1 200 OK", "CACHE-CONTROL: max-age=120", `ST: ${IGD}`, `USN: uuid:1::${IGD}`, "EXT:"]
      socket.send(`${[...head, "SERVER: test", `LOCATION: ${this.url}`].join("\r\n")}\r\n\r\n`, port, address)
    })
    return () => socket.close()
  }

  close(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }

  #control(body: string, response: Http.ServerResponse): void {
    const action = /<u:(\w+)/.exec(body)?.[1] ?? ""
    const fields = Object.fromEntries([...body.matchAll(/<(New\w+)>([^<]*)</g)].map(([, name, value]) => [name, value]))
    this.calls.push({ action, fields })
    const { outside, portFor, raw, refuse } = this.behaviour
    if (raw !== undefined) {
      response.end(raw)
    } else if (refuse !== undefined) {
      response.statusCode = 500
      const error = `<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>${refuse}</errorCode><errorDescription>No</errorDescription></UPnPError>`
      response.end(
        envelope(
          `<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>${error}</detail></s:Fault>`
        )
      )
    } else if (action === "GetExternalIPAddress") {
      response.end(
        envelope(
          `<u:${action}Response xmlns:u="${WAN}"><NewExternalIPAddress>${outside}</NewExternalIPAddress></u:${action}Response>`
        )
      )
    } else {
      const port = portFor(Number(fields.NewExternalPort))
      response.end(
        envelope(
          `<u:${action}Response xmlns:u="${WAN}"><NewReservedPort>${port}</NewReservedPort></u:${action}Response>`
        )
      )
    }
  }
}
