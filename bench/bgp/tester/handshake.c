#include "tester.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MARKER 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff

const uint8_t keepalive[HEADER] = {MARKER, 0, HEADER, KEEPALIVE};

static void write16(uint8_t *to, uint16_t value) {
  to[0] = (uint8_t)(value >> 8);
  to[1] = (uint8_t)value;
}

/* IPv4 unicast (RFC 4760), route refresh (RFC 2918) and four-octet AS numbers (RFC 6793), as any client offers. */
size_t write_open(uint8_t *to, uint16_t as, struct in_addr id) {
  static const uint8_t capabilities[] = {2, 14, 1, 4, 0, 1, 0, 1, 2, 0, 65, 4, 0, 0, 0, 0};
  const size_t length = HEADER + 10 + sizeof capabilities;
  memset(to, 0xff, 16);
  write16(to + 16, (uint16_t)length);
  to[18] = OPEN;
  to[19] = 4;
  write16(to + 20, as);
  write16(to + 22, HOLD_SECONDS);
  memcpy(to + 24, &id, 4);
  to[28] = sizeof capabilities;
  memcpy(to + 29, capabilities, sizeof capabilities);
  write16(to + length - 2, as);
  return length;
}

static bool read_exactly(int fd, uint8_t *to, size_t length) {
  for (size_t got = 0; got < length;) {
    ssize_t n = recv(fd, to + got, length - got, 0);
    if (n <= 0) return false;
    got += (size_t)n;
  }
  return true;
}

int read_message(int fd, uint8_t message[LARGEST]) {
  if (!read_exactly(fd, message, HEADER)) return 0;
  size_t length = read16(message + 16);
  if (length < HEADER || length > LARGEST) return 0;
  return read_exactly(fd, message + HEADER, length - HEADER) ? message[18] : 0;
}

/* OPEN and KEEPALIVE both ways. */
static bool greet(struct session *s, struct in_addr local, uint16_t as) {
  uint8_t message[LARGEST];
  size_t length = write_open(message, as, local);
  if (send(s->fd, message, length, MSG_NOSIGNAL) != (ssize_t)length) return false;
  for (bool opened = false;;) {
    int type = read_message(s->fd, message);
    if (type == OPEN) {
      opened = true;
      // Before it is sent: the DUT may have told its table by the time that this process runs again.
      s->up = now();
      if (send(s->fd, keepalive, HEADER, MSG_NOSIGNAL) != HEADER) return false;
    } else if (type == KEEPALIVE && opened) {
      return true;
    } else {
      if (type == NOTIFICATION)
        snprintf(s->failure, sizeof s->failure, "NOTIFICATION %u/%u", message[19], message[20]);
      return false;
    }
  }
}

static bool attempt(struct session *s, struct in_addr local, struct sockaddr_in dut, uint16_t as) {
  s->failure[0] = 0;
  s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (s->fd < 0) die("socket: %s", strerror(errno));
  const int on = 1;
  const struct timeval patience = {.tv_sec = 10};
  const struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = local};
  setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (bind(s->fd, (const void *)&from, sizeof from) < 0) die("bind: %s", strerror(errno));
  errno = 0;
  if (connect(s->fd, (const void *)&dut, sizeof dut) == 0 && greet(s, local, as)) {
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
    return true;
  }
  if (!s->failure[0])
    snprintf(s->failure, sizeof s->failure, "%s", errno ? strerror(errno) : "closed by the DUT");
  close(s->fd);
  return false;
}

bool session_connect(struct session *s, struct in_addr local, struct sockaddr_in dut, uint16_t as, double deadline) {
  const struct timespec between = {.tv_nsec = 100000000};
  while (!attempt(s, local, dut, as)) {
    if (now() > deadline) return false;
    nanosleep(&between, NULL);
  }
  return true;
}
