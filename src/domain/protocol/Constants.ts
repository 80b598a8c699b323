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
/** Epochs are counted in 32 bits; the last one's keys are not replaced. */
export const MAX_EPOCH = 2 ** 32 - 1
/** Bytes of a PATH_CHALLENGE's and a PATH_RESPONSE's token. */
export const PATH_TOKEN_LENGTH = 8
/** Connection ids of one side that the other may hold, those under way included (RFC 9000 section 18.2). */
export const MAX_CONNECTION_IDS = 12
/** Addresses in one CANDIDATES frame. */
export const MAX_CANDIDATES = 8
/** Streams of a session: keeps every stream id, four kinds of them, below 2^53 (RFC 9000 section 4.6 has 2^60). */
export const MAX_STREAMS = 2 ** 51
/** UTF-8 bytes of a CLOSE frame's reason. */
export const MAX_CLOSE_REASON_LENGTH = 256
/** UTF-8 bytes of a device's name. */
export const MAX_DEVICE_NAME_LENGTH = 64
/** Bytes of a record between client and llm tier behind its length field, at most: padded text and tag. */
export const MAX_SEALED_RECORD = 65_520
/** Bytes: names a sealed session. */
export const SEALED_SESSION_ID_LENGTH = 16
/** Bytes of the channel that a rendezvous knows a relayed datagram by, before what it carries. */
export const RENDEZVOUS_CHANNEL_LENGTH = 16
/** Bytes of a bind with a cookie, and of an answer; a first bind has the length of an initiation. */
export const RENDEZVOUS_REBIND_LENGTH = 176
export const RENDEZVOUS_ANSWER_LENGTH = 96
/** Bytes of a ticket. */
export const RENDEZVOUS_TICKET_LENGTH = 104
/** Client ends that one credential may have at a rendezvous side by side: processes on one home. */
export const RENDEZVOUS_ENDS = 8

// -- this implementation's choices ----------------------------------------------------------------------------------

/** Packets: width of the replay window (RFC 6479). */
export const REPLAY_WINDOW = 8192
/** Messages of one streaming answer that may be unacknowledged. What is said while all are on their way leaves with the next. */
export const RPC_WINDOW = 16
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
/** Milliseconds between two rotations of a session's keys, and the share of them by which each is moved, either way. */
export const REKEY_INTERVAL_MS = 3_600_000
export const REKEY_JITTER = 0.1
/** Packets, and bytes, sealed under one key after which it is replaced. */
export const REKEY_PACKETS = 2 ** 22
export const REKEY_BYTES = 2 ** 30
/** Packets sealed under one key at most: AES-GCM's confidentiality limit (RFC 9001 section 6.6). */
export const MAX_KEY_PACKETS = 2 ** 23
/** Milliseconds: the keys of the epoch before open for three probe timeouts, and no longer than this. */
export const MAX_REKEY_GRACE_MS = 30_000
/** Milliseconds without a word after a server's data, after which its client sends a PING, once. */
export const QUIET_MS = 1000
/** Milliseconds: a closing or draining session is kept no longer. */
export const MAX_CLOSING_MS = 6000
/** Bytes to an address that has not answered a challenge, for each byte that came from it (RFC 9000 section 8). */
export const MAX_UNPROVEN_FACTOR = 3
/** Path challenges sent to a new address before it is given up, the first after one PTO, each gap twice the one before. */
export const PATH_CHALLENGE_TRIES = 5
/** Challenges sent to a candidate, milliseconds from the first to the second, and how each further gap grows. */
export const CANDIDATE_TRIES = 10
export const CANDIDATE_GAP_MS = 100
export const CANDIDATE_GROWTH = 1.5
/** Challenges a second to candidates that nothing came from, of a session, and their burst. */
export const CANDIDATE_PER_SECOND = 16
export const CANDIDATE_BURST = 64
/** Paths that a session knows, and those among them that never answered. */
export const MAX_PATHS = 16
export const MAX_UNPROVEN_PATHS = 10
/** Milliseconds from one challenge of a path that is not in use to the next: keeps it open, and known to work. */
export const STANDBY_MS = 30_000
/** Milliseconds after which a server forgets a path that nothing comes from, and anybody one that was left or never answered. */
export const PATH_FORGET_MS = 100_000
export const PATH_LINGER_MS = 10_000
/** Milliseconds from a failure of a path in use to the next try, doubled with each further one up to the other. */
export const PATH_RETRY_MS = 1000
export const PATH_RETRY_MAX_MS = 30_000
/** Failures in a row after which a path is forgotten. */
export const PATH_MAX_FAILURES = 12
/** A path as good otherwise is taken for its round trip only if that is this share of the present one's, and ms, shorter. */
export const PATH_RTT_SHARE = 0.7
export const PATH_RTT_MARGIN_MS = 5
/** Milliseconds over which clients spread their moves to an announced port, at most; half the time of notice if less. */
export const PORT_SPREAD_MS = 60_000
/** Milliseconds from one try of an announced port to the next; the last is `PORT_GRACE_MS` after its opening. */
export const PORT_RETRY_MS = 30_000
/** Milliseconds: bounds of a keep-alive interval that adapts to the NAT. */
export const KEEP_ALIVE_MIN_MS = 10_000
export const KEEP_ALIVE_MAX_MS = 120_000
/** Milliseconds without a word from its client after which a server asks: shorter than NATs forget (RFC 4787 apart). */
export const ASK_MS = 28_000
/** Keep-alives that were kept before a longer interval is tried; doubled with each one that failed. */
export const KEEP_ALIVE_STREAK = 3
/** Handshakes a second that one credential, and all together, may cost us in Diffie-Hellman work, and their bursts. */
export const DH_CREDENTIAL_PER_SECOND = 4
export const DH_CREDENTIAL_BURST = 32
export const DH_BUDGET_PER_SECOND = 64
export const DH_BUDGET_BURST = 256
/** Handshakes a second that one network (an IPv4 /24, an IPv6 /64) may cost us, their burst, and networks remembered. */
export const NETWORK_PER_SECOND = 32
export const NETWORK_BURST = 128
export const MAX_KNOCKING_NETWORKS = 1024
/** Sessions beyond the limit that are taken on only to be told so. */
export const COURTESY_SESSIONS = 8
/** Bytes of data that one sealed record carries, at most: a reader waits for a whole record. */
export const MAX_SEALED_DATA = 16_382
/** A direction of a sealed stream changes its key after so many milliseconds, bytes, or records. */
export const SEALED_REKEY_MS = 3_600_000
export const SEALED_REKEY_BYTES = 2 ** 30
export const SEALED_REKEY_RECORDS = 2 ** 20
/** Milliseconds in which further streams may continue a sealed session; a client makes a new one a little earlier. */
export const SEALED_SESSION_MS = 3_600_000
/** Sealed sessions that the llm tier can continue, in all and of one device; the least recently used go first. */
export const MAX_SEALED_SESSIONS = 1024
export const MAX_SEALED_SESSIONS_PER_DEVICE = 16
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
export const DIAL_BACKOFF_MS: ReadonlyArray<number> = [250, 500, 1000, 1000, 1000, 1000, 2000]
/** Endpoints that each round of a dial sends to: the best ones, and some of the others in turn. */
export const DIAL_BEST_ENDPOINTS = 4
export const DIAL_OTHER_ENDPOINTS = 4
/** Endpoints of the time that a clock sweep tries, beside one of those that are known. */
export const DIAL_SWEPT_ENDPOINTS = 2
/** Addresses that one invitation should name, and further ones that a dial takes on while it lasts. */
export const MAX_DIAL_ENDPOINTS = 32
export const MAX_DIAL_WAYS = 8
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

// Ports of servers.

/** Ports that a server draws from: the dynamic ones (RFC 6335 section 6). */
export const PORT_FIRST = 49_152
export const PORT_COUNT = 16_384
/** Ports of one period that are tried until one can be bound. */
export const PORT_CHOICES = 8
/** Milliseconds that a server keeps one port, how long before its end the next one is open and announced, and how long after it the old one stays. */
export const PORT_PERIOD_MS = 3_600_000
export const PORT_ANNOUNCE_MS = 120_000
export const PORT_GRACE_MS = 300_000

// The blind rendezvous (ours).

/** Milliseconds for which a rendezvous keeps an end that is not bound again. */
export const RENDEZVOUS_LIFE_MS = 90_000
/** Milliseconds from one bind to the next: of a device, which speaks first, and of a server, which may have to be found. */
export const RENDEZVOUS_REBIND_MS = 20_000
export const RENDEZVOUS_WATCH_MS = 2000
/** Milliseconds after which who sends and hears nothing binds anew: its address may have changed. */
export const RENDEZVOUS_DEAF_MS = 2000
/** Milliseconds from a bind without an answer to the next. After so many the rendezvous counts as silent, and the last repeats. */
export const RENDEZVOUS_BACKOFF_MS: ReadonlyArray<number> = [250, 500, 1000, 2000, 5000]
/** Milliseconds after which the secret of address challenges changes; the one before still counts. */
export const RENDEZVOUS_COOKIE_MS = 120_000
/** Binds a second that pass the first check and may cost us their proof, and their burst. */
export const RENDEZVOUS_BINDS_PER_SECOND = 500
export const RENDEZVOUS_BINDS_BURST = 1000
/** Binds remembered against replays. */
export const RENDEZVOUS_BINDS_REMEMBERED = 65_536
/** Servers of one rendezvous, and client ends of one server and of all. */
export const RENDEZVOUS_MAX_SERVERS = 64
export const RENDEZVOUS_MAX_SERVER_ENDS = 1024
export const RENDEZVOUS_MAX_ENDS = 4096
/** Bytes and datagrams a second that a rendezvous forwards for one credential, and in all; half of it is the burst. */
export const RENDEZVOUS_SLOT_BYTES = 12_500_000
export const RENDEZVOUS_SLOT_DATAGRAMS = 12_500
export const RENDEZVOUS_ALL_BYTES = 125_000_000
export const RENDEZVOUS_ALL_DATAGRAMS = 125_000
/** Credentials that a server expects at one rendezvous; each has an address of its own in 100.64.0.0/10. */
export const RENDEZVOUS_MAX_CREDENTIALS = 16_384
/** Datagrams that a client keeps until it is bound. */
export const RENDEZVOUS_HELD_DATAGRAMS = 4
/** Milliseconds for which a server's own ticket is good, more than clocks may differ, and one that it gives a device. */
export const RENDEZVOUS_OWN_TICKET_MS = 172_800_000
export const RENDEZVOUS_TICKET_MS = 2_592_000_000
