/**
 * Every number of the protocol, with its unit and where it comes from. The first part is wire format: both ends must
 * agree on it and docs/PROTOCOL.md names it. The second part is one implementation's choice and may differ between peers.
 */

// -- wire format ---------------------------------------------------------------------------------------------------

/** Bound into every key: change it and nothing old opens. */
export const PROTOCOL_NAME = "clawchat/1"
/** Wire versions this build speaks, lowest and highest. */
export const VERSION_MIN = 1
export const VERSION_MAX = 1

/** Bytes: connection ids and hints share one length, so one table look-up serves both. */
export const CONNECTION_ID_LENGTH = 8
/** Bytes: a credential's id, which is also the enrolled device's. */
export const CREDENTIAL_ID_LENGTH = 16
/** Bytes: names one connection attempt over all its retransmissions. */
export const CONNECT_ID_LENGTH = 8
/** Bytes: pre-shared keys, port seeds, X25519 keys. */
export const SECRET_LENGTH = 32
/** Bytes: every datagram's length is a multiple of this. */
export const PADDING_BLOCK = 16
/** Bytes: an initiation is padded to exactly this; an answer is never longer. */
export const INITIATION_LENGTH = 1200
/** Bytes: the largest datagram sent where the path is not known to carry more (RFC 9000 section 14). */
export const MAX_DATAGRAM_LENGTH = 1200
/** Milliseconds: a hint of an enrolled device is good for its slot and both neighbours. */
export const HINT_SLOT_MS = 300_000
/** Hints a server expects in a slot beyond the highest it has answered there. */
export const HINT_WINDOW = 16
/** Bytes: connection id and masked epoch-and-counter before the ciphertext of a transport datagram. */
export const PACKET_HEADER_LENGTH = 16
/** Packet numbers stop here and the session with them (exact in a double, far below the AEAD's limit). */
export const MAX_PACKET_NUMBER = 2 ** 52
/** Largest value of a variable-length integer we write or accept: exact in a double. */
export const MAX_VARINT = Number.MAX_SAFE_INTEGER
/** Bytes: a transport datagram never exceeds a UDP payload's length field. */
export const MAX_PACKET_LENGTH = 65_535
/** Frames in one packet, a run of padding counting once; a packet with more is malformed. */
export const MAX_FRAMES_PER_PACKET = 512
/** Ranges in one ACK frame, and so the ranges of received packets worth remembering. */
export const MAX_ACK_RANGES = 64
/** Milliseconds an acknowledgement may be held back (RFC 9000 section 18.2, max_ack_delay); the peer's PTO counts on it. */
export const MAX_ACK_DELAY_MS = 25
/** Bytes of a PATH_CHALLENGE's and a PATH_RESPONSE's token. */
export const PATH_TOKEN_LENGTH = 8
/** Streams of a session: keeps every stream id, four kinds of them, below 2^53 (RFC 9000 section 4.6 has 2^60). */
export const MAX_STREAMS = 2 ** 51
/** UTF-8 bytes of a CLOSE frame's reason. */
export const MAX_CLOSE_REASON_LENGTH = 256
/** UTF-8 bytes of a device's name. */
export const MAX_DEVICE_NAME_LENGTH = 64

// -- this implementation's choices ----------------------------------------------------------------------------------

/** Packets: width of the replay window (RFC 6479). */
export const REPLAY_WINDOW = 8192
/** Bytes a stream may hold unacknowledged before a writer waits, unless two congestion windows are more; half lets it go on. */
export const SEND_BUFFER_HIGH = 1_048_576
/** Receive windows grow to this many times their first size where they hold the sender back. */
export const WINDOW_GROWTH = 2
/** Datagrams of one session that are sealed, sent, or opened together; the kernel's limit for one call (UDP_MAX_SEGMENTS). */
export const MAX_BURST_DATAGRAMS = 64
/** Unreliable datagrams waiting to be sent; more are refused. */
export const MAX_QUEUED_DATAGRAMS = 64
/** Packets: at least this many between two packet numbers left out (RFC 9000 section 21.4), at most twice. */
export const SKIP_PACKETS = 256
/** Packets in a row that elicit no acknowledgement, after which a PING goes with the next (RFC 9000 section 13.2.4). */
export const ACKS_BEFORE_PING = 64
/** Milliseconds without a word after a server's data, after which its client sends a PING, once. */
export const QUIET_MS = 1000
/** Milliseconds: a closing or draining session is kept no longer. */
export const MAX_CLOSING_MS = 6000
/** Bytes to an address that has not answered a challenge, for each byte that came from it (RFC 9000 section 8). */
export const MAX_UNPROVEN_FACTOR = 3
/** Path challenges sent to a new address before it is given up, one per PTO. */
export const PATH_CHALLENGE_TRIES = 5
/** Handshakes a second that one credential, and all together, may cost us in Diffie-Hellman work, and their bursts. */
export const DH_CREDENTIAL_PER_SECOND = 4
export const DH_CREDENTIAL_BURST = 32
export const DH_BUDGET_PER_SECOND = 64
export const DH_BUDGET_BURST = 128
/** Hints of one slot that a server keeps at most; the lowest go first. */
export const MAX_HINTS_PER_SLOT = 64
/** Slots in which a client remembers the hints that it showed: those of a clock sweep, and some. */
export const MAX_HINT_SLOTS = 256
/** Milliseconds a handshake may stay unproven. */
export const HALF_OPEN_MS = 10_000
/** Handshakes waiting for their client's first packet, in all. */
export const MAX_HALF_OPEN = 64
/** Sessions one device may hold side by side (several processes on one home); one more replaces the most silent. */
export const MAX_SESSIONS_PER_CREDENTIAL = 8
/** Sessions from one IP address, for many devices may share a NAT. */
export const MAX_SESSIONS_PER_HOST = 64
/** Milliseconds from one round of a dial to the next; the last repeats. */
export const DIAL_BACKOFF_MS: ReadonlyArray<number> = [250, 500, 1000, 2000]
/** Endpoints that one round of a dial sends to. */
export const DIAL_ENDPOINTS_PER_ROUND = 4
/** Milliseconds between two steps of the clock sweep, and how far it reaches either way (time zones, and two hours). */
export const SWEEP_INTERVAL_MS = 50
export const SWEEP_REACH_HOURS = 26

// Loss recovery (RFC 9002): names and values of its section 6 and appendix A.2, unless said otherwise.

/** Milliseconds: kInitialRtt, assumed until the first sample. */
export const INITIAL_RTT_MS = 333
/** Milliseconds: kGranularity, what timers can be relied upon. */
export const GRANULARITY_MS = 1
/** Packets: kPacketThreshold, acknowledged later ones that make a packet lost. */
export const PACKET_THRESHOLD = 3
/** kTimeThreshold, of the larger of latest and smoothed RTT. */
export const TIME_THRESHOLD = 9 / 8
/** kPersistentCongestionThreshold, in probe timeouts. */
export const PERSISTENT_CONGESTION_THRESHOLD = 3
/** Milliseconds: backing off never makes a probe timeout longer than this (ours: a session outlives 30 s of cut link). */
export const PTO_CAP_MS = 2000
/** Packets whose fate is remembered at a time; a power of two (ours: 40 MB in flight). */
export const MAX_TRACKED_PACKETS = 32_768
/** Packets declared lost that are remembered in case their acknowledgement is only late (ours). */
export const MAX_LOST_REMEMBERED = 128
/** Packet numbers left out on purpose that are remembered, the latest ones (ours). */
export const MAX_SKIPPED_REMEMBERED = 8
/** Datagrams that may leave in one burst (RFC 9002 section 7.7), and milliseconds' worth (ours: host timers tick in 1 ms). */
export const PACER_BURST_DATAGRAMS = 10
export const PACER_BURST_MS = 2
/** Bytes: a burst is never longer, unless ten datagrams are (ours). */
export const PACER_BURST_MAX = 524_288
/** Milliseconds without the answer that the peer owes after which a session counts as stalled: another way may be tried. */
export const STALL_MS = 2_500

// Path MTU discovery (RFC 8899 section 5.1, unless said otherwise).

/** Probes of one size lost before it is given up: MAX_PROBES. */
export const MTU_MAX_PROBES = 3
/** Milliseconds after which a probe without a fate counts as lost: PROBE_TIMER. */
export const MTU_PROBE_TIMEOUT_MS = 15_000
/** Milliseconds from the end of a search below the ceiling to the next: PMTU_RAISE_TIMER. */
export const MTU_RAISE_MS = 600_000
/** Milliseconds from the loss of a probe to the next of that size, so that one burst does not take them all (ours). */
export const MTU_PROBE_GAP_MS = 50
/** Packets and round trips of losses that make a black hole (ours). */
export const MTU_HOLE_PACKETS = 6
export const MTU_HOLE_ROUNDS = 3
/** Milliseconds without probes after a black hole, doubled with each further one (ours). */
export const MTU_REST_MS = 2000

// Copies of small packets (ours).

/** Packets decided without a loss after which small packets are no longer sent twice. */
export const REDUNDANCY_MEMORY = 200
/** Milliseconds from a packet to its copy, at most: longer than most bursts of loss, shorter than any repair. */
export const REDUNDANCY_DELAY_MS = 10
/** Packets, and bytes, that are copied together; more in so short a time are bulk. */
export const REDUNDANCY_PACKETS = 8
export const REDUNDANCY_BYTES = 3600
