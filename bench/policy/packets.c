/*
 * What connections and octets cost on their way, for bench/policy/packets.ts.
 *   serve PORT                   takes connections one after the other, reads each to its end
 *   connect ADDRESS PORT COUNT   makes so many connections one after the other; prints seconds
 *   send ADDRESS PORT MEBIBYTES  sends so much over one connection; prints seconds
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[1 << 17];

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int opened(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  return fd;
}

static int connected(const struct sockaddr_in *to) {
  int fd = opened();
  if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0) fail("connect");
  return fd;
}

static void serve(int port) {
  int one = 1, fd = opened();
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, (struct sockaddr *)&here, sizeof here) < 0) fail("bind");
  if (listen(fd, 1024) < 0) fail("listen");
  puts("ready");
  fflush(stdout);
  for (;;) {
    int peer = accept(fd, NULL, NULL);
    if (peer < 0) fail("accept");
    while (read(peer, buffer, sizeof buffer) > 0)
      ;
    close(peer);
  }
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "serve") == 0) serve(atoi(argv[2]));
  if (argc != 5) {
    fprintf(stderr, "usage: bench-packets serve PORT | connect ADDRESS PORT COUNT | send ADDRESS PORT MEBIBYTES\n");
    return 2;
  }
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[3]))};
  if (inet_pton(AF_INET, argv[2], &to.sin_addr) != 1) fail(argv[2]);
  long count = atol(argv[4]);
  double began = now();
  if (strcmp(argv[1], "connect") == 0) {
    /* Closed by a reset, so that no port waits. */
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    for (long at = 0; at < count; at++) {
      int fd = connected(&to);
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
      close(fd);
    }
  } else {
    int fd = connected(&to);
    for (size_t left = (size_t)count << 20; left > 0;) {
      ssize_t sent = write(fd, buffer, left < sizeof buffer ? left : sizeof buffer);
      if (sent < 0) fail("write");
      left -= (size_t)sent;
    }
    shutdown(fd, SHUT_WR);
    /* The end comes when everything was read. */
    if (read(fd, buffer, 1) < 0) fail("read");
    close(fd);
  }
  printf("%.6f\n", now() - began);
  return 0;
}
