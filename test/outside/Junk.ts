/** Datagrams that are none of ours: other protocols' first words, and bytes that mean nothing at all. */
import { randomBytes } from "node:crypto"

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s+/g, ""), "hex")
const ascii = (text: string): Buffer => Buffer.from(text.replace(/\n/g, "\r\n"), "latin1")

/** What other protocols open with, by name. */
const PROTOCOLS: Readonly<Record<string, Uint8Array>> = {
  stunBinding: hex("0001 0000 2112a442 000102030405060708090a0b"),
  stunClassic: hex("0001 0000 00112233445566778899aabbccddeeff"),
  turnAllocate: hex("0003 0008 2112a442 0102030405060708090a0b0c 0019 0004 11000000"),
  dnsQuery: hex("1234 0100 0001 0000 0000 0000 07 6578616d706c65 03 636f6d 00 0001 0001"),
  dnsAny: hex("1234 0100 0001 0000 0000 0001 00 00ff 0001 0000291000000000000000"),
  dnsResponse: hex("1234 8180 0001 0000 0000 0000 07 6578616d706c65 03 636f6d 00 0001 0001"),
  mdns: hex(
    "0000 0000 0001 0000 0000 0000 09 5f7365727669636573 07 5f646e732d7364 04 5f756470 05 6c6f63616c 00 000c 0001"
  ),
  dtlsClientHello: hex(
    `16 fefd 0000 000000000000 0036 01 00002a 0000 000000000000 002a fefd ${"5a".repeat(32)} 00 00 0002 c02b 0100`
  ),
  dtlsAlert: hex("15 fefd 0000 000000000000 0002 0100"),
  tlsClientHello: hex(`16 0301 0030 01 00002c 0303 ${"5a".repeat(32)} 00 0002 1301 0100`),
  quicInitial: hex("c3 00000001 08 0001020304050607 00 00 449e 00000000"),
  quicGrease: hex("c3 1a2a3a4a 08 0001020304050607 08 0001020304050607"),
  quicV2: hex("d3 6b3343cf 08 0001020304050607 00 00 449e 00000000"),
  quicShort: hex("43 0001020304050607 1122334455667788"),
  wireGuardInitiation: hex(`01000000 11223344 ${"a5".repeat(140)}`),
  wireGuardResponse: hex(`02000000 11223344 55667788 ${"a5".repeat(80)}`),
  wireGuardCookie: hex(`03000000 11223344 ${"a5".repeat(56)}`),
  wireGuardData: hex(`04000000 11223344 0000000000000000 ${"a5".repeat(16)}`),
  openVpnReset: hex("38 0102030405060708 00 00000000"),
  openVpnResetV3: hex("50 0102030405060708 00 00000000"),
  ikeSaInit: hex("0102030405060708 0000000000000000 21 20 22 08 00000000 0000001c"),
  ikeNatT: hex("00000000 0102030405060708 0000000000000000 21 20 22 08 00000000 0000001c"),
  esp: hex(`11223344 00000001 ${"77".repeat(40)}`),
  l2tp: hex("c802 0014 0000 0000 0000 0000 8008 0000 0000 0001"),
  ntpClient: hex(`23 ${"00".repeat(47)}`),
  ntpMonlist: hex("17 00 03 2a 00000000"),
  ntpMode6: hex("16 01 0001 0000 0000 0000 0000"),
  snmpV1: hex("302602 0100 0406 7075626c6963 a019 0204 01020304 0201 00 0201 00 300b 3009 0605 2b06010201 0500"),
  snmpV3: hex("303a 020103 300f 02024a69 0203 00ffe3 0401 04 020103 0410 300e 0400 0201 00 0201 00 0400 0400 0400"),
  ssdp: ascii('M-SEARCH * HTTP/1.1\nHOST: 239.255.255.250:1900\nMAN: "ssdp:discover"\nMX: 1\nST: ssdp:all\n\n'),
  sipOptions: ascii(
    "OPTIONS sip:nm SIP/2.0\nVia: SIP/2.0/UDP nm;branch=foo\nFrom: <sip:nm@nm>;tag=root\nTo: <sip:nm2@nm2>\nCSeq: 42 OPTIONS\n\n"
  ),
  httpGet: ascii("GET / HTTP/1.1\nHost: localhost\n\n"),
  dhcpDiscover: hex(`010106 00 3903f326 0000 8000 ${"00".repeat(28)} ${"00".repeat(192)} 63825363 350101 ff`),
  tftpRead: hex("0001 2f6574632f706173737764 00 6f63746574 00"),
  radius: hex(`01 01 0014 ${"00".repeat(16)}`),
  kerberosAsReq: hex("6a 0a 30 08 a103 020105 a203 02010a"),
  cldapSearch: hex("3025 020101 6320 0400 0a0100 0a0100 020100 020100 0101 00 870b 6f626a656374436c617373 3000"),
  netbiosName: hex(`80f0 0010 0001 0000 0000 0000 20 434b ${"41".repeat(30)} 00 0021 0001`),
  portmapDump: hex("72fe1d13 00000000 00000002 000186a0 00000002 00000004 00000000 00000000 00000000 00000000"),
  memcachedStats: Buffer.concat([hex("0001 0000 0001 0000"), ascii("stats\n")]),
  coapWellKnown: hex("40 01 7d70 bb 2e77656c6c2d6b6e6f776e 04 636f7265"),
  rtp: hex(`8000 0001 00000000 11223344 ${"d5".repeat(160)}`),
  rtcp: hex("80c8 0006 11223344 0000000000000000 00000000 00000000 00000000"),
  bitTorrentDht: ascii("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"),
  bitTorrentUtp: hex("4100 1234 00000000 00000000 00100000 0001 0000"),
  bitTorrentTracker: hex("0000041727101980 00000000 11223344"),
  kademlia: hex("e4 20"),
  gameA2sInfo: Buffer.concat([hex("ffffffff54"), ascii("Source Engine Query\0")]),
  gameQuake: Buffer.concat([hex("ffffffff"), ascii("getstatus")]),
  gameRakNet: hex("01 0000000000000001 00ffff00fefefefefdfdfdfd12345678 0000000000000002"),
  gameTeamSpeak: hex("545333494e4954 31 0065 0000 88 0a1b2c3d 00"),
  ipmiRmcp: hex("0600ff07 00000000000000000009 2018c88100388e04b5"),
  bacnet: hex("810a 0011 0104 0005 010c 0c 023fffff 194b"),
  modbus: hex("0001 0000 0006 01 03 0000 0001"),
  vxlan: hex("08000000 00000100 ffffffffffff 020000000001 0806"),
  gtpEcho: hex("3201 0004 00000000 00000000"),
  geneve: hex("0000 6558 00000100"),
  syslog: ascii("<34>1 2026-01-01T00:00:00Z host app - - - hello"),
  statsd: ascii("a.b.c:1|c"),
  netflow: hex("0005 0001 00000000 00000000 00000000 00000000 00 00 0000"),
  sflow: hex("00000005 00000001 7f000001 00000000 00000001 00000000 00000000"),
  hsrp: hex("00 00 10 03 0a 78 01 00 636973636f000000 0a000001"),
  rip: hex("0101 0000 0000 0000 00000000 00000000 00000000 00000010"),
  wsDiscovery: ascii('<?xml version="1.0"?><Envelope><Body><Probe/></Body></Envelope>'),
  json: ascii('{"jsonrpc":"2.0","id":1,"method":"hello"}'),
  mosh: hex("8000000000000001 00112233445566778899aabbccddeeff"),
  kcp: hex("11223344 51 00 8000 00000000 00000000 00000000 00000000"),
  enet: hex("8fff 0000 82 ff 0001 0000 00"),
  zeroTier: hex(`0102030405060708 1122334455 6677889900 18 ${"cc".repeat(16)}`),
  tailscaleDisco: hex(`5453f09f92ac ${"33".repeat(56)}`),
  nebula: hex("10 00 0001 00000000 0000000000000001"),
  tor: ascii("TOR0"),
  chargen: ascii("\n"),
  ssh: ascii("SSH-2.0-OpenSSH_9.6\n"),
  shell: ascii("$(reboot)`id`\0%n%s"),
  zip: hex("504b0304 1400 0000 0800"),
  elf: hex("7f454c46 0201 0100")
}

const padded = (bytes: Uint8Array, length: number): Uint8Array => {
  const out = new Uint8Array(length)
  out.set(bytes.subarray(0, length))
  return out
}

/** Kinds of junk, each of another shape: the protocols plain, cut and padded to our lengths, and bytes of many lengths. */
export const kinds = (): ReadonlyArray<Uint8Array> => {
  const out: Array<Uint8Array> = []
  for (const bytes of Object.values(PROTOCOLS)) {
    out.push(bytes, bytes.subarray(0, bytes.length >> 1), padded(bytes, Math.ceil(bytes.length / 16) * 16))
    out.push(padded(bytes, 1200))
  }
  for (const length of [
    0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 1184, 1199, 1200, 1201, 1216, 1472, 1500
  ]) {
    out.push(new Uint8Array(length), new Uint8Array(length).fill(0xff), Uint8Array.from(randomBytes(length)))
  }
  for (let length = 16; length <= 1600; length += 16) out.push(Uint8Array.from(randomBytes(length)))
  for (const length of [4096, 9000, 16_384, 32_768, 65_504, 65_507]) out.push(Uint8Array.from(randomBytes(length)))
  return out
}
