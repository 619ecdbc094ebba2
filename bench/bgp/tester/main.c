/*
 * bench-bgp speak STREAM                     speakers that follow the lines on standard input, one JSON line for each
 * bench-bgp relay ADDRESS PORT SOURCE AS     the harness without a speaker
 *
 * connect DUT PORT AS SECONDS LOCAL…   sessions, and when they came up    {"first":t,"last":t}
 * send OFFSET LENGTH                   of the stream, by the first one    {"began":t,"written":t}
 * send-each LENGTH                     the n-th session its n-th slice    {"began":t,"written":t}
 * expect PREFIXES QUIET_MS SECONDS     until every session has so many    {"first":t,"last":t,"updates":n,"octets":n,"digest":n}
 * mark                                 counts begin at zero again         {}
 * attributes                           of the first session's first route {"attributes":"hex"}
 *
 * What arrives is stored with its time and read when nothing has come for QUIET_MS, so that reading takes no processor
 * from the DUT while it works. What fails is told as {"error":"…"}.
 */
#include "tester.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { KEEPALIVE_SECONDS = 20, LINE = 8192 };

static struct session **sessions;
static size_t session_count;
static int events;
static const uint8_t *stream;
static size_t stream_length;
static double sent_at, last_arrival;
static struct {
  bool on;
  size_t count;
  double quiet, deadline;
} wanted;
static bool sending;

double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

_Noreturn void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("bench-bgp: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(1);
}

void *allocate(void *old, size_t octets) {
  void *found = realloc(old, octets);
  if (!found) die("no memory for %zu octets", octets);
  return found;
}

uint16_t read16(const uint8_t *at) {
  return (uint16_t)(at[0] << 8 | at[1]);
}

static struct in_addr address_of(const char *text) {
  struct in_addr address;
  if (!text || inet_pton(AF_INET, text, &address) != 1) die("%s is no IPv4 address", text ? text : "nothing");
  return address;
}

static struct sockaddr_in endpoint(const char *address, const char *port) {
  return (struct sockaddr_in){.sin_family = AF_INET,
                              .sin_addr = address_of(address),
                              .sin_port = htons((uint16_t)atoi(port ? port : "0"))};
}

static unsigned long number(void) {
  const char *word = strtok(NULL, " ");
  if (!word) die("a number is missing");
  return strtoul(word, NULL, 10);
}

static void watch(struct session *s, int operation) {
  struct epoll_event e = {.events = EPOLLIN | (s->out_left > 0 ? EPOLLOUT : 0), .data.ptr = s};
  if (s->fd >= 0 && epoll_ctl(events, operation, s->fd, &e) < 0) die("epoll: %s", strerror(errno));
}

static void queue(struct session *s, const uint8_t *octets, size_t length) {
  s->out = octets;
  s->out_left = length;
  session_flush(s);
  if (s->out_left > 0) watch(s, EPOLL_CTL_MOD);
}

static void connect_all(void) {
  const char *address = strtok(NULL, " "), *port = strtok(NULL, " ");
  struct sockaddr_in dut = endpoint(address, port);
  uint16_t as = (uint16_t)number();
  double deadline = now() + (double)number(), first = 0, last = 0;
  for (const char *local = strtok(NULL, " "); local; local = strtok(NULL, " ")) {
    struct session *s = calloc(1, sizeof *s);
    if (!s) die("no memory for a session");
    if (!session_connect(s, address_of(local), dut, as, deadline)) {
      printf("{\"error\":\"no session from %s: %s\"}\n", local, s->failure);
      free(s);
      return;
    }
    if (first == 0) first = s->up;
    last = s->up;
    sessions = allocate(sessions, (session_count + 1) * sizeof *sessions);
    sessions[session_count++] = s;
    watch(s, EPOLL_CTL_ADD);
  }
  printf("{\"first\":%.9f,\"last\":%.9f}\n", first, last);
}

static void send_slices(bool each) {
  size_t offset = each ? 0 : number(), length = number(), senders = each ? session_count : 1;
  if (session_count == 0) die("nobody is there to send");
  if (length == 0 || offset + length * senders > stream_length) die("the stream ends before that");
  for (size_t i = 0; each && i < senders; i++) session_own(sessions[i], stream + i * length, length);
  sent_at = now();
  for (size_t i = 0; i < senders; i++) queue(sessions[i], stream + offset + i * length, length);
  sending = true;
}

static void expect(void) {
  wanted.count = number();
  wanted.quiet = (double)number() / 1e3;
  last_arrival = now();
  wanted.deadline = last_arrival + (double)number();
  wanted.on = true;
  for (size_t i = 0; i < session_count; i++) sessions[i]->hit = 0;
}

static void mark(void) {
  for (size_t i = 0; i < session_count; i++) {
    session_parse(sessions[i], SIZE_MAX);
    sessions[i]->updates = sessions[i]->octets = 0;
    sessions[i]->first = 0;
  }
  puts("{}");
}

static void tell_attributes(void) {
  fputs("{\"attributes\":\"", stdout);
  for (size_t i = 0; session_count > 0 && i < sessions[0]->attributes_length; i++)
    printf("%02x", sessions[0]->attributes[i]);
  puts("\"}");
}

static void follow(char *line) {
  const char *word = strtok(line, " ");
  if (!word) return;
  if (strcmp(word, "connect") == 0) connect_all();
  else if (strcmp(word, "send") == 0) send_slices(false);
  else if (strcmp(word, "send-each") == 0) send_slices(true);
  else if (strcmp(word, "expect") == 0) expect();
  else if (strcmp(word, "mark") == 0) mark();
  else if (strcmp(word, "attributes") == 0) tell_attributes();
  else die("%s is no command", word);
}

/* Commands come one at a time: the next one is written when this one is answered. */
static void read_command(void) {
  static char line[LINE];
  static size_t length;
  ssize_t n = read(STDIN_FILENO, line + length, sizeof line - length - 1);
  if (n <= 0) exit(0);
  length += (size_t)n;
  line[length] = 0;
  if (!strchr(line, '\n')) {
    if (length == sizeof line - 1) die("a command is too long");
    return;
  }
  line[strcspn(line, "\n")] = 0;
  length = 0;
  follow(line);
}

static const char *failure(void) {
  for (size_t i = 0; i < session_count; i++)
    if (sessions[i]->failure[0]) return sessions[i]->failure;
  return NULL;
}

static void check_sent(void) {
  for (size_t i = 0; i < session_count; i++)
    if (sessions[i]->out_left > 0) return;
  sending = false;
  if (failure()) printf("{\"error\":\"%s\"}\n", failure());
  else printf("{\"began\":%.9f,\"written\":%.9f}\n", sent_at, now());
}

static void tell_result(void) {
  double first = sessions[0]->first, last = 0;
  unsigned long updates = 0, octets = 0;
  uint32_t digest = 0;
  for (size_t i = 0; i < session_count; i++) {
    const struct session *s = sessions[i];
    if (s->first < first) first = s->first;
    if (s->hit > last) last = s->hit;
    updates += s->updates;
    octets += s->octets;
    digest += s->table.digest;
  }
  printf("{\"first\":%.9f,\"last\":%.9f,\"updates\":%lu,\"octets\":%lu,\"digest\":%u}\n", first, last, updates, octets, digest);
}

/* Reads what is stored once it is quiet, and answers when all is there, or can no longer come. */
static void check_wanted(void) {
  bool late = now() > wanted.deadline;
  if (!late && !failure() && now() - last_arrival < wanted.quiet) return;
  size_t complete = 0, least = SIZE_MAX;
  for (size_t i = 0; i < session_count; i++) {
    session_parse(sessions[i], wanted.count);
    complete += sessions[i]->table.count == wanted.count;
    if (sessions[i]->table.count < least) least = sessions[i]->table.count;
  }
  last_arrival = now();
  wanted.on = false;
  if (failure()) printf("{\"error\":\"%s\"}\n", failure());
  else if (complete == session_count && session_count > 0) tell_result();
  else if (late)
    printf("{\"error\":\"%zu of %zu sessions have %zu prefixes, one has %zu\"}\n", complete, session_count, wanted.count, least);
  else wanted.on = true;
}

static void keep_alive(void) {
  static double due;
  if (now() < due) return;
  due = now() + KEEPALIVE_SECONDS;
  for (size_t i = 0; i < session_count; i++)
    if (sessions[i]->out_left == 0 && !sessions[i]->failure[0]) queue(sessions[i], keepalive, HEADER);
}

static int milliseconds_to_wait(void) {
  if (!wanted.on) return 1000;
  double left = last_arrival + wanted.quiet - now();
  return left <= 0 ? 0 : left > 1 ? 1000 : (int)(left * 1000) + 1;
}

static void handle(struct session *s, uint32_t ready) {
  if (s->fd >= 0 && ready & EPOLLOUT) {
    session_flush(s);
    if (s->out_left == 0) watch(s, EPOLL_CTL_MOD);
  }
  if (s->fd >= 0 && ready & (EPOLLIN | EPOLLHUP | EPOLLERR) && session_receive(s)) last_arrival = now();
}

static _Noreturn void speak(const char *file) {
  int fd = open(file, O_RDONLY | O_CLOEXEC);
  struct stat about;
  if (fd < 0 || fstat(fd, &about) < 0) die("%s: %s", file, strerror(errno));
  stream_length = (size_t)about.st_size;
  stream = mmap(NULL, stream_length, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (stream == MAP_FAILED) die("%s: %s", file, strerror(errno));
  setvbuf(stdout, NULL, _IOLBF, 0);
  events = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event input = {.events = EPOLLIN};
  if (events < 0 || epoll_ctl(events, EPOLL_CTL_ADD, STDIN_FILENO, &input) < 0) die("epoll: %s", strerror(errno));
  for (;;) {
    struct epoll_event ready[64];
    int n = epoll_wait(events, ready, 64, milliseconds_to_wait());
    if (n < 0 && errno != EINTR) die("epoll: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
      if (ready[i].data.ptr) handle(ready[i].data.ptr, ready[i].events);
      else read_command();
    }
    keep_alive();
    if (sending) check_sent();
    if (wanted.on) check_wanted();
  }
}

int main(int count, char **words) {
  if (count == 3 && strcmp(words[1], "speak") == 0) speak(words[2]);
  if (count == 6 && strcmp(words[1], "relay") == 0)
    relay(endpoint(words[2], words[3]), address_of(words[4]), (uint16_t)atoi(words[5]));
  die("usage: bench-bgp speak STREAM | bench-bgp relay ADDRESS PORT SOURCE AS");
}
