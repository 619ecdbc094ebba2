#include "tester.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECEIVE = 1 << 18 };

static void fail(struct session *s, const char *why) {
  if (!s->failure[0]) snprintf(s->failure, sizeof s->failure, "%s", why);
}

static void lost(struct session *s, const char *why) {
  fail(s, why);
  close(s->fd);
  s->fd = -1;
  s->out_left = 0;
}

bool session_receive(struct session *s) {
  if (s->in_room - s->in_length < RECEIVE) {
    s->in_room = s->in_room * 2 + RECEIVE;
    s->in = allocate(s->in, s->in_room);
  }
  ssize_t n = recv(s->fd, s->in + s->in_length, RECEIVE, 0);
  double at = now();
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (n <= 0) {
    lost(s, n == 0 ? "closed by the DUT" : strerror(errno));
    return true;
  }
  if (s->chunk_count == s->chunk_room) {
    s->chunk_room = s->chunk_room * 2 + 256;
    s->chunks = allocate(s->chunks, s->chunk_room * sizeof *s->chunks);
  }
  s->in_length += (size_t)n;
  s->chunks[s->chunk_count++] = (struct chunk){.end = s->in_length, .at = at};
  return n > HEADER;
}

void session_flush(struct session *s) {
  while (s->out_left > 0) {
    ssize_t n = send(s->fd, s->out, s->out_left < 1 << 20 ? s->out_left : 1 << 20, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) {
      lost(s, strerror(errno));
      return;
    }
    s->out += n;
    s->out_left -= (size_t)n;
  }
}

typedef void change(struct session *, uint64_t key);

static void announced(struct session *s, uint64_t key) {
  if (s->own.count == 0 || !table_has(&s->own, key)) table_add(&s->table, key);
}

static void withdrawn(struct session *s, uint64_t key) {
  table_remove(&s->table, key);
}

static void announced_by_us(struct session *s, uint64_t key) {
  table_add(&s->own, key);
}

/* Prefixes: a length in bits, then the fewest octets that hold it. RFC 4271 section 4.3 */
static bool each_prefix(struct session *s, const uint8_t *at, const uint8_t *end, change *apply) {
  while (at < end) {
    unsigned length = *at++, octets = (length + 7) / 8;
    if (length > 32 || octets > (size_t)(end - at)) return false;
    uint32_t address = 0;
    for (unsigned i = 0; i < octets; i++) address |= (uint32_t)at[i] << (24 - 8 * i);
    apply(s, prefix_key(address, length));
    at += octets;
  }
  return true;
}

/* One UPDATE of `length` octets with its header. */
static bool parse_update(struct session *s, const uint8_t *m, size_t length, change *add, change *remove) {
  const uint8_t *end = m + length, *at = m + HEADER;
  if (length < HEADER + 4) return false;
  size_t withdrawn_length = read16(at);
  at += 2;
  if (withdrawn_length + 2 > (size_t)(end - at)) return false;
  if (!each_prefix(s, at, at + withdrawn_length, remove)) return false;
  at += withdrawn_length;
  size_t attributes_length = read16(at);
  at += 2;
  if (attributes_length > (size_t)(end - at)) return false;
  if (s->attributes_length == 0 && at + attributes_length < end) {
    memcpy(s->attributes, at, attributes_length);
    s->attributes_length = attributes_length;
  }
  return each_prefix(s, at + attributes_length, end, add);
}

void session_own(struct session *s, const uint8_t *updates, size_t length) {
  for (size_t at = 0; at < length; at += read16(updates + at + 16))
    if (!parse_update(s, updates + at, read16(updates + at + 16), announced_by_us, announced_by_us))
      die("the stream has a malformed UPDATE");
  s->attributes_length = 0;
}

static void take(struct session *s, const uint8_t *m, size_t length, double at, size_t wanted) {
  if (m[18] == NOTIFICATION && length >= HEADER + 2) {
    snprintf(s->failure, sizeof s->failure, "NOTIFICATION %u/%u", m[19], m[20]);
  } else if (m[18] == UPDATE && length > HEADER + 4) {
    size_t before = s->table.count;
    if (!parse_update(s, m, length, announced, withdrawn)) fail(s, "a malformed UPDATE");
    s->updates++;
    s->octets += length;
    if (s->first == 0) s->first = at;
    if (s->table.count == wanted && before != wanted) s->hit = at;
  }
}

/* Forgets `parsed` octets and the recvs that brought nothing later. */
static void forget(struct session *s, size_t parsed, size_t chunk) {
  memmove(s->in, s->in + parsed, s->in_length - parsed);
  s->in_length -= parsed;
  size_t left = 0;
  for (; chunk < s->chunk_count; chunk++)
    if (s->chunks[chunk].end > parsed)
      s->chunks[left++] = (struct chunk){.end = s->chunks[chunk].end - parsed, .at = s->chunks[chunk].at};
  s->chunk_count = left;
}

void session_parse(struct session *s, size_t wanted) {
  size_t at = 0, chunk = 0;
  while (s->in_length - at >= HEADER) {
    const uint8_t *m = s->in + at;
    size_t length = read16(m + 16);
    if (memcmp(m, keepalive, 16) != 0 || length < HEADER || length > LARGEST) {
      fail(s, "a malformed header");
      break;
    }
    if (s->in_length - at < length) break;
    at += length;
    while (s->chunks[chunk].end < at) chunk++;
    take(s, m, length, s->chunks[chunk].at, wanted);
  }
  forget(s, at, chunk);
}
