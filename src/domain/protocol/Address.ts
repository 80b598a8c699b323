/** Where datagrams go and come from: a numeric IP address and a UDP port, never a host name. */
export interface Address {
  /** `192.0.2.1` or `2001:db8::1`, without brackets or zone. */
  readonly host: string
  /** 1..65535. */
  readonly port: number
  /**
   * Which of our ways leads there: a further socket of ours, or a relay. Absent or 0: the first socket. An address by
   * another way is another path. Meaningful on this host only, never on the wire.
   */
  readonly via?: number | undefined
}

/** Whether something can be sent there. */
export const isPort = (port: number): boolean => Number.isInteger(port) && port > 0 && port <= 0xffff

export const isLoopback = (host: string): boolean => host === "::1" || host.startsWith("127.")

/** By the same way to the same place. */
export const equals = (a: Address, b: Address): boolean =>
  a.port === b.port && a.host === b.host && (a.via ?? 0) === (b.via ?? 0)

/** `192.0.2.1:443` or `[2001:db8::1]:443`. */
export const format = (address: Address): string =>
  address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
