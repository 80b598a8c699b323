/*
 * A link between two fresh network namespaces, in user space: for kernels without netem, and the same on all of them.
 *
 *   link RATE_MBIT ONE_WAY_MS LOSS_PERCENT QUEUE_BYTES SEED
 *
 * The first namespace has 10.123.0.1, the second 10.123.0.2, each on a TUN device. Both directions are alike: a
 * drop-tail queue of QUEUE_BYTES, a line of RATE_MBIT, a delay of ONE_WAY_MS, and after it independent loss. Prints
 * "ready PID FD FD" (open descriptors of the two namespaces: `nsenter --net=/proc/PID/fd/FD ...`), then serves until its
 * standard input ends and prints what it did, as JSON. The namespaces have no name: they end with the last process in them,
 * however that ends.
 *
 * Time: arrivals are stamped when read, departures are due to the nanosecond and leave at most COALESCE_NS late, which
 * keeps the number of wake-ups far below the number of packets.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MTU 1500
#define SLOT_BYTES 1536
#define SLOTS 16384 /* at 1500 bytes: 2 s of 100 Mbit */
#define COALESCE_NS 100000ull
#define READ_BATCH 256
#define DEVICE_QUEUE 1000

struct packet {
  uint64_t due;
  int length;
  unsigned char bytes[SLOT_BYTES];
};

struct direction {
  struct packet *ring;
  unsigned head, tail;
  uint64_t line_free; /* when the line has sent what is queued */
  uint64_t sent, sent_bytes, lost, dropped, deepest_ns;
};

static double rate_mbit, loss;
static uint64_t delay_ns, queue_bytes, random_state;

static void die(const char *what) {
  fprintf(stderr, "link: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* splitmix64 */
static double chance(void) {
  uint64_t z = (random_state += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static void address(struct ifreq *request, const char *text) {
  struct sockaddr_in *in = (struct sockaddr_in *)&request->ifr_addr;
  memset(&request->ifr_addr, 0, sizeof request->ifr_addr);
  in->sin_family = AF_INET;
  inet_pton(AF_INET, text, &in->sin_addr);
}

static void up(int s, const char *name) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (ioctl(s, SIOCGIFFLAGS, &request) < 0) die("SIOCGIFFLAGS");
  request.ifr_flags |= IFF_UP;
  if (ioctl(s, SIOCSIFFLAGS, &request) < 0) die("SIOCSIFFLAGS");
}

/* A new namespace with loopback and a TUN device that is up; its descriptor goes to *ns. */
static int open_end(const char *ip, int *ns) {
  if (unshare(CLONE_NEWNET) < 0) die("unshare (root is needed)");
  *ns = open("/proc/self/ns/net", O_RDONLY);
  int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  if (*ns < 0 || tun < 0) die("/dev/net/tun");
  struct ifreq request;
  memset(&request, 0, sizeof request);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  strncpy(request.ifr_name, "link", IFNAMSIZ - 1);
  if (ioctl(tun, TUNSETIFF, &request) < 0) die("TUNSETIFF");
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  if (s < 0) die("socket");
  address(&request, ip);
  if (ioctl(s, SIOCSIFADDR, &request) < 0) die("SIOCSIFADDR");
  address(&request, "255.255.255.0");
  if (ioctl(s, SIOCSIFNETMASK, &request) < 0) die("SIOCSIFNETMASK");
  request.ifr_mtu = MTU;
  if (ioctl(s, SIOCSIFMTU, &request) < 0) die("SIOCSIFMTU");
  /* The device's own queue: what the sender's host holds before the link reads it. */
  request.ifr_qlen = DEVICE_QUEUE;
  if (ioctl(s, SIOCSIFTXQLEN, &request) < 0) die("SIOCSIFTXQLEN");
  up(s, "lo");
  up(s, "link");
  close(s);
  return tun;
}

/* Reads what has come; answers how many. */
static int arrive(int tun, struct direction *d) {
  static unsigned char spill[SLOT_BYTES];
  int count = 0;
  for (; count < READ_BATCH; count++) {
    int full = d->tail - d->head == SLOTS;
    struct packet *p = &d->ring[d->tail % SLOTS];
    int length = (int)read(tun, full ? spill : p->bytes, SLOT_BYTES);
    if (length <= 0) break;
    uint64_t now = now_ns();
    uint64_t start = d->line_free > now ? d->line_free : now;
    double waiting_bytes = (double)(start - now) * rate_mbit / 8000.0;
    if (full || (rate_mbit > 0 && waiting_bytes + length > (double)queue_bytes + length * (waiting_bytes == 0))) {
      d->dropped++;
      continue;
    }
    if (start - now > d->deepest_ns) d->deepest_ns = start - now;
    d->line_free = rate_mbit > 0 ? start + (uint64_t)(length * 8000.0 / rate_mbit) : now;
    /* Lost on the way: it took its time on the line all the same. */
    if (chance() < loss) {
      d->lost++;
      continue;
    }
    p->length = length;
    p->due = d->line_free + delay_ns;
    d->tail++;
  }
  return count;
}

/* Hands on what is due. */
static void depart(int tun, struct direction *d, uint64_t now) {
  while (d->head != d->tail) {
    struct packet *p = &d->ring[d->head % SLOTS];
    if (p->due > now) return;
    if (write(tun, p->bytes, (size_t)p->length) < 0 && errno == EAGAIN) return;
    d->sent++;
    d->sent_bytes += (uint64_t)p->length;
    d->head++;
  }
}

static volatile sig_atomic_t ended;
static void end(int signal) {
  (void)signal;
  ended = 1;
}

int main(int count, char **text) {
  if (count != 6) {
    fprintf(stderr, "usage: link RATE_MBIT ONE_WAY_MS LOSS_PERCENT QUEUE_BYTES SEED\n");
    return 2;
  }
  rate_mbit = atof(text[1]);
  delay_ns = (uint64_t)(atof(text[2]) * 1e6);
  loss = atof(text[3]) / 100;
  queue_bytes = strtoull(text[4], NULL, 10);
  random_state = strtoull(text[5], NULL, 10) * 0x2545f4914f6cdd1dull + 1;

  prctl(PR_SET_PDEATHSIG, SIGTERM);
  prctl(PR_SET_TIMERSLACK, 1000);
  signal(SIGTERM, end);
  signal(SIGINT, SIG_IGN); /* Ctrl-C reaches the parent, which ends us by closing our input */
  int ns[2], tun[2];
  tun[0] = open_end("10.123.0.1", &ns[0]);
  tun[1] = open_end("10.123.0.2", &ns[1]);
  /* A line keeps its rhythm whatever the machine does. It is refused where root is not quite root. */
  struct sched_param high = {.sched_priority = 1};
  sched_setscheduler(0, SCHED_RR, &high);
  struct direction to[2] = {0};
  for (int i = 0; i < 2; i++) {
    to[i].ring = calloc(SLOTS, sizeof(struct packet));
    if (to[i].ring == NULL) die("memory");
  }
  printf("ready %d %d %d\n", getpid(), ns[0], ns[1]);
  fflush(stdout);

  while (!ended) {
    uint64_t now = now_ns();
    uint64_t next = now + 50000000ull;
    for (int i = 0; i < 2; i++) {
      depart(tun[1 - i], &to[i], now);
      if (to[i].head != to[i].tail && to[i].ring[to[i].head % SLOTS].due < next) next = to[i].ring[to[i].head % SLOTS].due;
    }
    uint64_t wait = next > now + COALESCE_NS ? next - now : COALESCE_NS;
    struct timespec timeout = {(time_t)(wait / 1000000000ull), (long)(wait % 1000000000ull)};
    struct pollfd fds[3] = {{tun[0], POLLIN, 0}, {tun[1], POLLIN, 0}, {0, POLLIN, 0}};
    if (ppoll(fds, 3, &timeout, NULL) < 0) continue;
    if (fds[2].revents) {
      char byte;
      if (read(0, &byte, 1) <= 0) break;
    }
    int arrived = 0;
    for (int i = 0; i < 2; i++)
      if (fds[i].revents & POLLIN) arrived += arrive(tun[i], &to[i]);
    /* More is likely to follow: gather it instead of waking for each. */
    if (arrived > 0) {
      struct timespec pause = {0, COALESCE_NS};
      nanosleep(&pause, NULL);
      for (int i = 0; i < 2; i++) arrive(tun[i], &to[i]);
    }
  }
  printf("[");
  for (int i = 0; i < 2; i++)
    printf("%s{\"sent\":%lu,\"bytes\":%lu,\"lost\":%lu,\"dropped\":%lu,\"deepestMs\":%.3f}", i ? "," : "", to[i].sent,
           to[i].sent_bytes, to[i].lost, to[i].dropped, (double)to[i].deepest_ns / 1e6);
  printf("]\n");
  return 0;
}
