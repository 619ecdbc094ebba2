#include "tester.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PEERS = 256, PIECE = 1 << 18 };

static bool welcome(int fd, struct in_addr id, uint16_t as) {
  uint8_t message[LARGEST];
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (read_message(fd, message) != OPEN) return false;
  size_t length = write_open(message, as, id);
  if (send(fd, message, length, MSG_NOSIGNAL) != (ssize_t)length) return false;
  if (send(fd, keepalive, HEADER, MSG_NOSIGNAL) != HEADER) return false;
  return read_message(fd, message) == KEEPALIVE;
}

static void send_all(int fd, const uint8_t *octets, size_t length) {
  while (length > 0) {
    ssize_t n = send(fd, octets, length, MSG_NOSIGNAL);
    if (n < 0) die("relay: send: %s", strerror(errno));
    octets += n;
    length -= (size_t)n;
  }
}

_Noreturn void relay(struct sockaddr_in at, struct in_addr source, uint16_t as) {
  static uint8_t piece[PIECE];
  struct pollfd peers[PEERS] = {{.fd = socket(AF_INET, SOCK_STREAM, 0), .events = POLLIN}};
  bool sends[PEERS] = {false};
  nfds_t count = 1;
  const int on = 1;
  setsockopt(peers[0].fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(peers[0].fd, (const void *)&at, sizeof at) < 0 || listen(peers[0].fd, PEERS) < 0)
    die("relay: %s", strerror(errno));
  for (;;) {
    if (poll(peers, count, -1) < 0) die("relay: poll: %s", strerror(errno));
    for (nfds_t i = count - 1; i > 0; i--) {
      if (!peers[i].revents) continue;
      ssize_t n = recv(peers[i].fd, piece, sizeof piece, 0);
      if (n <= 0) die("relay: a peer is gone");
      for (nfds_t to = 1; sends[i] && to < count; to++)
        if (to != i) send_all(peers[to].fd, piece, (size_t)n);
    }
    if (!peers[0].revents) continue;
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    int fd = accept(peers[0].fd, (void *)&from, &length);
    if (fd < 0 || count == PEERS || !welcome(fd, at.sin_addr, as)) die("relay: a peer could not be welcomed");
    sends[count] = from.sin_addr.s_addr == source.s_addr;
    peers[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
  }
}
