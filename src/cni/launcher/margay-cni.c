/*
 * margay-cni: the plugin executable that a container runtime starts for every CNI verb.
 *
 * It decides nothing. It hands the CNI_* environment and standard input to the agent over a unix socket, prints the
 * agent's answer and exits as told, so that an ADD costs a process start of a static binary and no more. It answers by
 * itself only VERSION, and with a CNI error object when there is no agent to ask (CNI specification, "Error").
 *
 * Request: 4 octets of length, big-endian, then {"env":{"CNI_...":"..."},"stdin":"..."} in UTF-8.
 * Answer:  4 octets of length, big-endian, then one octet of exit code and the bytes for standard output.
 *
 * Socket path, first that is there: $MARGAY_CNI_SOCKET; the first line of "<this executable>.socket"; the default.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef DEFAULT_SOCKET
#define DEFAULT_SOCKET "/var/run/margay/cni.sock"
#endif

#define SUPPORTED "\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""

enum {
  max_stdin = 1 << 20,
  max_answer = 4 << 20,
  request_ms = 10000, /* reading the configuration, connecting and sending */
  answer_ms = 30000,  /* the agent's own limits are shorter */
};

/* Codes of the CNI specification. */
enum { code_io = 5, code_decode = 6, code_config = 7, code_again = 11, code_unavailable = 50 };

extern char **environ;

/* The request's cniVersion, which every answer repeats. */
static char version[16] = "1.0.0";

struct text {
  char *bytes;
  size_t length;
  size_t capacity;
};

static void put_all(const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t n = write(STDOUT_FILENO, bytes, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) exit(1);
    bytes += n;
    length -= (size_t)n;
  }
}

static void append(struct text *to, const char *bytes, size_t length) {
  if (to->capacity - to->length < length) {
    size_t capacity = (to->length + length) * 2;
    char *larger = realloc(to->bytes, capacity);
    if (larger == NULL) {
      static const char message[] = "{\"cniVersion\":\"1.0.0\",\"code\":5,\"msg\":\"out of memory\"}\n";
      put_all(message, sizeof message - 1);
      exit(1);
    }
    to->bytes = larger;
    to->capacity = capacity;
  }
  memcpy(to->bytes + to->length, bytes, length);
  to->length += length;
}

static void append_text(struct text *to, const char *text) { append(to, text, strlen(text)); }

/* Octets of the well-formed UTF-8 sequence at `s` (RFC 3629 section 4), or 0. */
static size_t sequence(const unsigned char *s, size_t left) {
  unsigned char lead = s[0];
  unsigned char low = 0x80, high = 0xbf;
  size_t length;
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) length = 2;
  else if (lead >= 0xe0 && lead <= 0xef) length = 3;
  else if (lead >= 0xf0 && lead <= 0xf4) length = 4;
  else return 0;
  if (lead == 0xe0) low = 0xa0;
  if (lead == 0xed) high = 0x9f;
  if (lead == 0xf0) low = 0x90;
  if (lead == 0xf4) high = 0x8f;
  if (left < length || s[1] < low || s[1] > high) return 0;
  for (size_t i = 2; i < length; i++)
    if (s[i] < 0x80 || s[i] > 0xbf) return 0;
  return length;
}

/* A JSON string: controls escaped, octets that are no UTF-8 replaced by U+FFFD. */
static void append_json(struct text *to, const char *bytes, size_t length) {
  const unsigned char *s = (const unsigned char *)bytes;
  append(to, "\"", 1);
  for (size_t i = 0; i < length;) {
    size_t n = sequence(s + i, length - i);
    if (n == 0) {
      append_text(to, "\\ufffd");
      i++;
      continue;
    }
    if (s[i] == '"' || s[i] == '\\') {
      append(to, "\\", 1);
      append(to, bytes + i, 1);
    } else if (s[i] < 0x20) {
      char escape[8];
      snprintf(escape, sizeof escape, "\\u%04x", s[i]);
      append_text(to, escape);
    } else {
      append(to, bytes + i, n);
    }
    i += n;
  }
  append(to, "\"", 1);
}

/* Prints a CNI error object and exits 1. */
static _Noreturn void fail(int code, const char *message, const char *details) {
  struct text out = {0};
  char number[16];
  append_text(&out, "{\"cniVersion\":\"");
  append_text(&out, version);
  snprintf(number, sizeof number, "%d", code);
  append_text(&out, "\",\"code\":");
  append_text(&out, number);
  append_text(&out, ",\"msg\":");
  append_json(&out, message, strlen(message));
  append_text(&out, ",\"details\":");
  append_json(&out, details, strlen(details));
  append_text(&out, "}\n");
  put_all(out.bytes, out.length);
  exit(1);
}

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits until `fd` is ready for `events`; false when the deadline passed. */
static int ready(int fd, short events, int64_t deadline) {
  for (;;) {
    int64_t left = deadline - now_ms();
    struct pollfd p = {.fd = fd, .events = events};
    int n;
    if (left <= 0) return 0;
    n = poll(&p, 1, (int)left);
    if (n > 0) return 1;
    if (n < 0 && errno != EINTR) return 0;
  }
}

static void read_stdin(struct text *to, int64_t deadline) {
  char chunk[16384];
  for (;;) {
    ssize_t n;
    if (!ready(STDIN_FILENO, POLLIN, deadline))
      fail(code_io, "reading the network configuration from standard input took longer than 10 s", "");
    n = read(STDIN_FILENO, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(code_io, "reading the network configuration from standard input failed", strerror(errno));
    if (n == 0) return;
    append(to, chunk, (size_t)n);
    if (to->length > max_stdin) fail(code_decode, "the network configuration is longer than 1 MiB", "");
  }
}

static size_t skip_space(const char *s, size_t n, size_t i) {
  while (i < n && (s[i] == ' ' || s[i] == '\t' || s[i] == '\r' || s[i] == '\n')) i++;
  return i;
}

/* Index of the quote that ends the string whose first character is at `i`, or `n`. */
static size_t string_end(const char *s, size_t n, size_t i) {
  while (i < n && s[i] != '"') i += s[i] == '\\' ? 2 : 1;
  return i < n ? i : n;
}

/* Takes over a version made of digits and dots; anything else is for the agent to refuse. */
static void take_version(const char *s, size_t length) {
  if (length == 0 || length >= sizeof version) return;
  for (size_t i = 0; i < length; i++)
    if ((s[i] < '0' || s[i] > '9') && s[i] != '.') return;
  memcpy(version, s, length);
  version[length] = 0;
}

/* Finds the "cniVersion" of the outermost object; the agent parses the rest. */
static void find_version(const char *s, size_t n) {
  static const char wanted[] = "cniVersion";
  int depth = 0, key = 0;
  for (size_t i = 0; i < n; i++) {
    char c = s[i];
    if (c == '"') {
      size_t start = i + 1, end = string_end(s, n, start);
      if (end == n) return;
      i = end;
      if (depth == 1 && key && end - start == sizeof wanted - 1 && memcmp(s + start, wanted, end - start) == 0) {
        size_t at = skip_space(s, n, end + 1);
        if (at < n && s[at] == ':') at = skip_space(s, n, at + 1);
        if (at < n && s[at] == '"') take_version(s + at + 1, string_end(s, n, at + 1) - at - 1);
        return;
      }
      key = 0;
    } else if (c == '{' || c == '[') {
      depth++;
      key = c == '{';
    } else if (c == '}' || c == ']') {
      depth--;
    } else if (c == ',') {
      key = 1;
    }
  }
}

/* First line of "<executable>.socket" into `path`; false if there is none. */
static int socket_beside(char *path, size_t size) {
  char file[PATH_MAX + 8];
  ssize_t n = readlink("/proc/self/exe", file, PATH_MAX);
  int fd;
  if (n <= 0) return 0;
  memcpy(file + n, ".socket", 8);
  fd = open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  n = read(fd, path, size - 1);
  close(fd);
  if (n <= 0) return 0;
  path[n] = 0;
  path[strcspn(path, "\r\n")] = 0;
  return path[0] != 0;
}

static _Noreturn void no_agent(int status, const char *path, const char *why) {
  struct text details = {0};
  append_text(&details, path);
  append_text(&details, ": ");
  append_text(&details, why);
  append(&details, "", 1);
  fail(status ? code_unavailable : code_again, "the margay agent on this node does not answer; is margay felix running?",
       details.bytes);
}

static int connect_agent(int status, const char *path, int64_t deadline) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  int fd;
  if (strlen(path) >= sizeof to.sun_path) fail(code_config, "the path of the agent's socket is longer than 107 octets", path);
  strcpy(to.sun_path, path);
  fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) fail(code_io, "no socket could be opened", strerror(errno));
  while (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
    struct timespec wait = {.tv_nsec = 10000000};
    /* EAGAIN: the agent lives, its queue of connections is full. */
    if (errno != EAGAIN && errno != EINTR) no_agent(status, path, strerror(errno));
    if (now_ms() >= deadline) no_agent(status, path, "its queue of connections stayed full");
    nanosleep(&wait, NULL);
  }
  return fd;
}

static void send_all(int fd, int status, const char *path, const char *bytes, size_t length, int64_t deadline) {
  while (length > 0) {
    ssize_t n;
    if (!ready(fd, POLLOUT, deadline)) no_agent(status, path, "it did not take the request within 10 s");
    n = send(fd, bytes, length, MSG_NOSIGNAL);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) no_agent(status, path, strerror(errno));
    bytes += n;
    length -= (size_t)n;
  }
}

static void receive_all(int fd, int status, const char *path, unsigned char *bytes, size_t length, int64_t deadline) {
  while (length > 0) {
    ssize_t n;
    if (!ready(fd, POLLIN, deadline)) no_agent(status, path, "no answer within 30 s");
    n = recv(fd, bytes, length, 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) no_agent(status, path, strerror(errno));
    if (n == 0) no_agent(status, path, "it closed the connection without an answer");
    bytes += n;
    length -= (size_t)n;
  }
}

static void build_request(struct text *to, const struct text *configuration) {
  size_t length;
  int first = 1;
  append(to, "\0\0\0\0", 4);
  append_text(to, "{\"env\":{");
  for (char **entry = environ; *entry != NULL; entry++) {
    const char *equals = strchr(*entry, '=');
    if (strncmp(*entry, "CNI_", 4) != 0 || equals == NULL) continue;
    if (!first) append(to, ",", 1);
    first = 0;
    append_json(to, *entry, (size_t)(equals - *entry));
    append(to, ":", 1);
    append_json(to, equals + 1, strlen(equals + 1));
  }
  append_text(to, "},\"stdin\":");
  append_json(to, configuration->bytes, configuration->length);
  append(to, "}", 1);
  length = to->length - 4;
  for (int i = 0; i < 4; i++) to->bytes[i] = (char)(length >> (24 - 8 * i));
}

int main(void) {
  const char *verb = getenv("CNI_COMMAND");
  const char *path = getenv("MARGAY_CNI_SOCKET");
  struct text configuration = {0}, request = {0};
  int64_t deadline = now_ms() + request_ms;
  char beside[PATH_MAX];
  unsigned char head[4];
  int status = verb != NULL && strcmp(verb, "STATUS") == 0;

  signal(SIGPIPE, SIG_IGN);
  read_stdin(&configuration, deadline);
  find_version(configuration.bytes, configuration.length);
  if (verb != NULL && strcmp(verb, "VERSION") == 0) {
    struct text out = {0};
    append_text(&out, "{\"cniVersion\":\"");
    append_text(&out, version);
    append_text(&out, "\",\"supportedVersions\":[" SUPPORTED "]}\n");
    put_all(out.bytes, out.length);
    return 0;
  }
  if (path == NULL || path[0] == 0) path = socket_beside(beside, sizeof beside) ? beside : DEFAULT_SOCKET;

  build_request(&request, &configuration);
  int fd = connect_agent(status, path, deadline);
  send_all(fd, status, path, request.bytes, request.length, deadline);

  deadline = now_ms() + answer_ms;
  receive_all(fd, status, path, head, sizeof head, deadline);
  size_t length = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
  if (length < 1 || length > max_answer) no_agent(status, path, "its answer is not of this protocol");
  unsigned char *answer = malloc(length);
  if (answer == NULL) fail(code_io, "out of memory", "");
  receive_all(fd, status, path, answer, length, deadline);
  put_all((const char *)answer + 1, length - 1);
  return answer[0];
}
