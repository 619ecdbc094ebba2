/*
 * margay-cni: the plugin executable that a container runtime starts for every CNI verb.
 *
 * It decides nothing. It hands the CNI_* environment and standard input to the agent over a unix socket, prints the
 * agent's answer and exits as told, so that an ADD costs a process start of a static binary and no more. It answers by
 * itself only VERSION, and with a CNI error object when there is no agent to ask (CNI specification, "Error"). A DEL it
 * then leaves in a folder, where the agent finds it, and says that it is done: the runtime must not hold on to a pod.
 *
 * Request: 4 octets of length, big-endian, then {"env":{"CNI_...":"..."},"stdin":"...","signs":true} in UTF-8.
 * Answer:  4 octets of length, big-endian, then one octet of exit code and the bytes for standard output. A length of 0
 *          is a sign of life of an agent that is still at work; one that gives none hangs, and counts as being away.
 *
 * Socket path, first that is there: $MARGAY_CNI_SOCKET; the first line of "<this executable>.socket"; the default.
 * Queue's folder: $MARGAY_CNI_QUEUE; the second line of that file; the default. A queued file holds the request's JSON.
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

#include "answer.h"
#include "namespace.h"
#include "queue.h"
#include "text.h"

#ifndef DEFAULT_SOCKET
#define DEFAULT_SOCKET "/var/run/margay/cni.sock"
#endif
#ifndef DEFAULT_QUEUE
#define DEFAULT_QUEUE "/var/lib/margay/cni-queue"
#endif

#define SUPPORTED "\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""

enum {
  max_stdin = 1 << 20,
  max_answer = 4 << 20,
  stdin_ms = 10000,  /* reading the configuration */
  silent_ms = 8000,  /* connecting and sending, and between two signs of life, which come every 2 s */
  answer_ms = 30000, /* the agent's own limits are shorter */
  status_ms = 2000,
};

extern char **environ;

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

/* What is asked of the agent, and where. */
struct call {
  const char *verb;
  const char *socket;
  const char *queue;
  struct text request;
};

static int is(const struct call *call, const char *verb) { return strcmp(call->verb, verb) == 0; }

/* Reads "<executable>.socket" into `text` and puts its lines into the call where nothing is yet. */
static void read_settings(struct call *call, char *text, size_t size) {
  char file[PATH_MAX + 8];
  ssize_t n = readlink("/proc/self/exe", file, PATH_MAX);
  int fd;
  if (n <= 0) return;
  memcpy(file + n, ".socket", 8);
  fd = open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  n = read(fd, text, size - 1);
  close(fd);
  if (n <= 0) return;
  text[n] = 0;
  char *queue = text + strcspn(text, "\n");
  if (*queue == '\n') *queue++ = 0;
  queue[strcspn(queue, "\r\n")] = 0;
  text[strcspn(text, "\r")] = 0;
  if (call->socket == NULL && text[0] != 0) call->socket = text;
  if (call->queue == NULL && queue[0] != 0) call->queue = queue;
}

static const char *setting(const char *name) {
  const char *value = getenv(name);
  return value != NULL && value[0] != 0 ? value : NULL;
}

/* The agent cannot be asked. A DEL is kept for it, which is success; other verbs are for the runtime to repeat. */
static _Noreturn void no_agent(struct call *call, const char *why) {
  struct text details = {0};
  append_text(&details, call->socket);
  append_text(&details, ": ");
  append_text(&details, why);
  if (is(call, "DEL")) {
    const char *problem = queue_removal(call->queue, call->request.bytes + 4, call->request.length - 4);
    if (problem == NULL) exit(0);
    append_text(&details, "; not queued in ");
    append_text(&details, call->queue);
    append_text(&details, ": ");
    append_text(&details, problem);
  }
  fail(is(call, "STATUS") ? code_unavailable : code_again,
       "the margay agent on this node does not answer; is margay felix running?", text_of(&details));
}

static int connect_agent(struct call *call, int64_t deadline) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  int fd;
  if (strlen(call->socket) >= sizeof to.sun_path)
    fail(code_config, "the path of the agent's socket is longer than 107 octets", call->socket);
  strcpy(to.sun_path, call->socket);
  fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) fail(code_io, "no socket could be opened", strerror(errno));
  while (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
    struct timespec wait = {.tv_nsec = 10000000};
    /* EAGAIN: the agent lives, its queue of connections is full. */
    if (errno != EAGAIN && errno != EINTR) no_agent(call, strerror(errno));
    if (now_ms() >= deadline) no_agent(call, "its queue of connections stayed full");
    nanosleep(&wait, NULL);
  }
  return fd;
}

static void send_request(int fd, struct call *call, int64_t deadline) {
  const char *bytes = call->request.bytes;
  size_t length = call->request.length;
  while (length > 0) {
    ssize_t n;
    if (!ready(fd, POLLOUT, deadline)) no_agent(call, "it did not take the request in time");
    n = send(fd, bytes, length, MSG_NOSIGNAL);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) no_agent(call, strerror(errno));
    bytes += n;
    length -= (size_t)n;
  }
}

static int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

static void receive_all(int fd, struct call *call, unsigned char *bytes, size_t length, int64_t deadline) {
  int64_t silence = now_ms() + silent_ms;
  while (length > 0) {
    ssize_t n;
    if (!ready(fd, POLLIN, earlier(deadline, silence))) {
      if (is(call, "STATUS")) no_agent(call, "no answer within 2 s");
      no_agent(call, deadline < silence ? "no answer within 30 s" : "no sign of life within 8 s; it hangs");
    }
    n = recv(fd, bytes, length, 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) no_agent(call, strerror(errno));
    if (n == 0) no_agent(call, "it closed the connection without an answer");
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
  append_text(to, ",\"signs\":true}");
  length = to->length - 4;
  for (int i = 0; i < 4; i++) to->bytes[i] = (char)(length >> (24 - 8 * i));
}

static int print_version(void) {
  struct text out = {0};
  append_text(&out, "{\"cniVersion\":\"");
  append_text(&out, version);
  append_text(&out, "\",\"supportedVersions\":[" SUPPORTED "]}\n");
  put_all(out.bytes, out.length);
  return 0;
}

/* Prints what the agent answers. The exit code is the agent's. */
static int pass_on(int fd, struct call *call, int64_t deadline) {
  unsigned char head[4];
  size_t length;
  do {
    receive_all(fd, call, head, sizeof head, deadline);
    length = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
  } while (length == 0);
  if (length > max_answer) no_agent(call, "its answer is not of this protocol");
  unsigned char *answer = malloc(length);
  if (answer == NULL) out_of_memory();
  receive_all(fd, call, answer, length, deadline);
  put_all((const char *)answer + 1, length - 1);
  return answer[0];
}

int main(void) {
  const char *verb = setting("CNI_COMMAND");
  struct call call = {
      .verb = verb == NULL ? "" : verb, .socket = setting("MARGAY_CNI_SOCKET"), .queue = setting("MARGAY_CNI_QUEUE")};
  struct text configuration = {0};
  char settings[2 * PATH_MAX];
  int64_t deadline = now_ms() + stdin_ms;

  signal(SIGPIPE, SIG_IGN);
  read_stdin(&configuration, deadline);
  find_version(configuration.bytes, configuration.length);
  if (is(&call, "VERSION")) return print_version();
  read_settings(&call, settings, sizeof settings);
  if (call.socket == NULL) call.socket = DEFAULT_SOCKET;
  if (call.queue == NULL) call.queue = DEFAULT_QUEUE;
  build_request(&call.request, &configuration);

  deadline = now_ms() + (is(&call, "STATUS") ? status_ms : silent_ms);
  if (is(&call, "ADD") || is(&call, "CHECK")) hand_namespace(call.socket, setting("CNI_NETNS"));
  int fd = connect_agent(&call, deadline);
  send_request(fd, &call, deadline);
  if (!is(&call, "STATUS")) deadline = now_ms() + answer_ms;
  return pass_on(fd, &call, deadline);
}
