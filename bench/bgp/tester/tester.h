/*
 * The neutral side of the BGP benchmark: speakers that send what was encoded before and store what they receive.
 * Times are CLOCK_MONOTONIC in seconds, which all processes of a machine share. RFC 4271.
 */
#ifndef MARGAY_BENCH_TESTER_H
#define MARGAY_BENCH_TESTER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HEADER = 19, LARGEST = 4096, HOLD_SECONDS = 180 };
enum { OPEN = 1, UPDATE = 2, NOTIFICATION = 3, KEEPALIVE = 4 };

/* A set of IPv4 prefixes: open addressing. */
struct table {
  uint64_t *slots;
  size_t room, used, count;
  uint32_t digest; /* of what is in it, whatever the order */
};

uint64_t prefix_key(uint32_t address, unsigned length);
void table_add(struct table *, uint64_t key);
void table_remove(struct table *, uint64_t key);
bool table_has(const struct table *, uint64_t key);

/* One recv: the stream ends at `end` after it. */
struct chunk {
  size_t end;
  double at;
};

struct session {
  int fd;
  double up; /* our KEEPALIVE, which completes the session for the DUT */
  char failure[96]; /* empty: the session stands */
  uint8_t *in;
  size_t in_length, in_room;
  struct chunk *chunks;
  size_t chunk_count, chunk_room;
  const uint8_t *out;
  size_t out_left;
  struct table table; /* what the DUT told and did not take back */
  struct table own;   /* what this session announced, which some reflectors send back */
  unsigned long updates, octets;
  double first, hit; /* recv of the first UPDATE, and the one that made the table as large as wanted; 0: none */
  uint8_t attributes[LARGEST]; /* of the first UPDATE that had prefixes */
  size_t attributes_length;
};

double now(void);
/* Ends the process with a line for the person who reads it. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *allocate(void *old, size_t octets);
uint16_t read16(const uint8_t *);

/* Blocking handshake parts, for both sides. */
size_t write_open(uint8_t *to, uint16_t as, struct in_addr id);
extern const uint8_t keepalive[HEADER];
/* Reads one message; 0 is its type when the connection ended or was silent for ten seconds. */
int read_message(int fd, uint8_t message[LARGEST]);

/* Connects from `local` and handshakes, again and again until `deadline`. False: `failure` says why. */
bool session_connect(struct session *, struct in_addr local, struct sockaddr_in dut, uint16_t as, double deadline);
/* Takes what has arrived, with its time. True when it was more than a KEEPALIVE. */
bool session_receive(struct session *);
/* Writes as much of `out` as the socket takes. */
void session_flush(struct session *);
/* Reads the stored messages; `hit` is set whenever the table comes to be of `wanted` prefixes. */
void session_parse(struct session *, size_t wanted);
/* Notes the prefixes of UPDATEs that this session is about to send. */
void session_own(struct session *, const uint8_t *updates, size_t length);

/* Not a speaker: octets from the address `source` go to all other peers as they come. Does not return. */
_Noreturn void relay(struct sockaddr_in at, struct in_addr source, uint16_t as);

#endif
