/*
 * What felix's route driver is measured against: the same rtnetlink messages, 1024 in a send, the last of which asks for
 * an acknowledgement (the kernel reports a failure unasked), written straight from C.
 *
 *   routes add|delete COUNT [STEP]   routes 10.0.0.0/26 + 64 i for i = 0, STEP, 2 STEP … below COUNT
 *   routes dump                      reads the main table
 *   routes resync COUNT              dump, compare with what is wanted, add what is missing or different
 *
 * Prints the nanoseconds that it took, without the program's start, and of processor time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { batch = 1024, our_protocol = 80 };

struct request {
  struct nlmsghdr header;
  struct rtmsg route;
  struct rtattr table_type;
  uint32_t table;
  struct rtattr destination_type;
  uint32_t destination;
  struct rtattr gateway_type;
  uint32_t gateway;
};

/* What is wanted, found by destination: a table of hashes, at most half full. */
struct wish {
  uint32_t destination, gateway;
  uint8_t length, protocol, wanted, held;
};

static struct wish *wishes;
static uint32_t wish_mask;
static const uint32_t our_gateway = 0xc0000202u;

static struct request requests[batch];
static char answer[256 * 1024];
static uint32_t sequence;

static void fail(const char *what) {
  fprintf(stderr, "routes: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int open_socket(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) fail("socket");
  int size = 1 << 20, on = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0) fail("SO_RCVBUFFORCE");
  if (setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on) < 0) fail("NETLINK_CAP_ACK");
  if (setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on) < 0) fail("NETLINK_EXT_ACK");
  if (setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on) < 0) fail("NETLINK_GET_STRICT_CHK");
  return fd;
}

static struct rtattr attribute(unsigned short type) {
  return (struct rtattr){.rta_len = sizeof(struct rtattr) + 4, .rta_type = type};
}

static uint32_t destination_of(uint32_t at) { return htonl(0x0a000000u + at * 64u); }

static void write_request(struct request *r, int add, uint32_t at) {
  int adding = add ? NLM_F_CREATE | NLM_F_REPLACE : 0;
  size_t length = add ? sizeof *r : offsetof(struct request, gateway_type);
  *r = (struct request){
      .header = {.nlmsg_len = length,
                 .nlmsg_type = add ? RTM_NEWROUTE : RTM_DELROUTE,
                 .nlmsg_flags = NLM_F_REQUEST | adding,
                 .nlmsg_seq = ++sequence},
      .route = {.rtm_family = AF_INET,
                .rtm_dst_len = 26,
                .rtm_protocol = our_protocol,
                .rtm_scope = add ? RT_SCOPE_UNIVERSE : RT_SCOPE_NOWHERE,
                .rtm_type = add ? RTN_UNICAST : RTN_UNSPEC},
      .table_type = attribute(RTA_TABLE),
      .table = RT_TABLE_MAIN,
      .destination_type = attribute(RTA_DST),
      .destination = destination_of(at),
      .gateway_type = attribute(RTA_GATEWAY),
      .gateway = htonl(our_gateway),
  };
}

/* Reads until the acknowledgement of `last`; a refused request ends the program. */
static void await_acknowledgement(int fd, uint32_t last) {
  for (;;) {
    ssize_t length = recv(fd, answer, sizeof answer, 0);
    if (length < 0) fail("recv");
    for (struct nlmsghdr *m = (void *)answer; NLMSG_OK(m, length); m = NLMSG_NEXT(m, length)) {
      if (m->nlmsg_type != NLMSG_ERROR) continue;
      errno = -((struct nlmsgerr *)NLMSG_DATA(m))->error;
      if (errno) fail("a route");
      if (m->nlmsg_seq == last) return;
    }
  }
}

static struct wish *wish_of(uint32_t destination, uint8_t length) {
  uint32_t hash = (destination ^ length) * 0x9e3779b1u;
  for (uint32_t at = hash ^ (hash >> 16);; at++) {
    struct wish *w = &wishes[at & wish_mask];
    if (!w->wanted || (w->destination == destination && w->length == length)) return w;
  }
}

static void make_wishes(uint32_t count) {
  uint32_t room = 1024;
  while (room < count * 2) room *= 2;
  wishes = calloc(room, sizeof *wishes);
  if (!wishes) fail("calloc");
  wish_mask = room - 1;
  for (uint32_t at = 0; at < count; at++)
    *wish_of(destination_of(at), 26) = (struct wish){.destination = destination_of(at),
                                                     .gateway = htonl(our_gateway),
                                                     .length = 26,
                                                     .protocol = our_protocol,
                                                     .wanted = 1};
}

/* A route of the dump: the wish that it fulfils, if any, is held. */
static void compare(struct nlmsghdr *m) {
  struct rtmsg *route = NLMSG_DATA(m);
  uint32_t destination = 0, gateway = 0, priority = 0;
  ssize_t rest = RTM_PAYLOAD(m);
  for (struct rtattr *a = RTM_RTA(route); RTA_OK(a, rest); a = RTA_NEXT(a, rest))
    switch (a->rta_type) {
      case RTA_DST: destination = *(uint32_t *)RTA_DATA(a); break;
      case RTA_GATEWAY: gateway = *(uint32_t *)RTA_DATA(a); break;
      case RTA_PRIORITY: priority = *(uint32_t *)RTA_DATA(a); break;
    }
  if (route->rtm_type != RTN_UNICAST || route->rtm_scope != RT_SCOPE_UNIVERSE || priority != 0) return;
  struct wish *w = wish_of(destination, route->rtm_dst_len);
  if (w->wanted && w->gateway == gateway && w->protocol == route->rtm_protocol) w->held = 1;
}

static void mend(int fd, uint32_t count) {
  for (uint32_t at = 0; at < count;) {
    int n = 0;
    for (; n < batch && at < count; at++)
      if (!wish_of(destination_of(at), 26)->held) write_request(&requests[n++], 1, at);
    if (n == 0) return;
    requests[n - 1].header.nlmsg_flags |= NLM_F_ACK;
    if (send(fd, requests, n * sizeof *requests, 0) < 0) fail("send");
    await_acknowledgement(fd, sequence);
  }
}

static void change(int fd, int add, uint32_t count, uint32_t step) {
  char *bytes = (char *)requests;
  size_t size = add ? sizeof(struct request) : offsetof(struct request, gateway_type);
  for (uint32_t at = 0; at < count;) {
    int n = 0;
    for (; n < batch && at < count; n++, at += step) write_request((struct request *)(bytes + n * size), add, at);
    ((struct nlmsghdr *)(bytes + (n - 1) * size))->nlmsg_flags |= NLM_F_ACK;
    if (send(fd, bytes, n * size, 0) < 0) fail("send");
    await_acknowledgement(fd, sequence);
  }
}

/* Compares with the wishes; where there are none, the destinations' octets are summed, so that they are looked at. */
static uint32_t dump(int fd) {
  struct {
    struct nlmsghdr header;
    struct rtmsg route;
    struct rtattr table_type;
    uint32_t table;
  } query = {.header = {.nlmsg_len = sizeof query,
                        .nlmsg_type = RTM_GETROUTE,
                        .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                        .nlmsg_seq = ++sequence},
             .route = {.rtm_family = AF_INET},
             .table_type = attribute(RTA_TABLE),
             .table = RT_TABLE_MAIN};
  if (send(fd, &query, sizeof query, 0) < 0) fail("send");
  uint32_t sum = 0;
  for (;;) {
    ssize_t length = recv(fd, answer, sizeof answer, 0);
    if (length < 0) fail("recv");
    for (struct nlmsghdr *m = (void *)answer; NLMSG_OK(m, length); m = NLMSG_NEXT(m, length)) {
      if (m->nlmsg_type == NLMSG_DONE) return sum;
      if (m->nlmsg_type == NLMSG_ERROR) fail("dump");
      if (wishes) {
        compare(m);
        continue;
      }
      ssize_t rest = RTM_PAYLOAD(m);
      for (struct rtattr *a = RTM_RTA(NLMSG_DATA(m)); RTA_OK(a, rest); a = RTA_NEXT(a, rest))
        if (a->rta_type == RTA_DST) sum += *(uint32_t *)RTA_DATA(a);
    }
  }
}

static long long nanoseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static uint32_t number(char **arguments, int at, int count, uint32_t absent) {
  return at < count ? (uint32_t)strtoul(arguments[at], NULL, 10) : absent;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: routes add|delete COUNT [STEP] | resync COUNT | dump\n");
    return 2;
  }
  uint32_t count = number(argv, 2, argc, 0), step = number(argv, 3, argc, 1), sum = 0;
  int fd = open_socket(), resync = strcmp(argv[1], "resync") == 0, looks = resync || strcmp(argv[1], "dump") == 0;
  if (resync) make_wishes(count);
  long long began = nanoseconds(CLOCK_MONOTONIC), idle = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
  if (looks) sum = dump(fd);
  if (resync) mend(fd, count);
  if (!looks) change(fd, strcmp(argv[1], "delete") != 0, count, step ? step : 1);
  long long took = nanoseconds(CLOCK_MONOTONIC) - began, used = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - idle;
  printf("%lld %lld %u\n", took, used, sum);
  return close(fd);
}
