#include "tester.h"

#include <stdlib.h>

enum { EMPTY = 0, REMOVED = 1 };

uint64_t prefix_key(uint32_t address, unsigned length) {
  return (uint64_t)(length + 1) << 32 | address;
}

/* A sum over the members; bench/bgp/stream.ts computes the same. */
static uint32_t digest_of(uint64_t key) {
  uint32_t length = (uint32_t)(key >> 32) - 1;
  return ((uint32_t)key ^ length * 0x9e3779b1u) * 0x85ebca6bu;
}

/* The slot of the key, or the one where it belongs. */
static size_t slot_of(const struct table *t, uint64_t key) {
  size_t at = (key * 0x9e3779b97f4a7c15ull) >> 20 & (t->room - 1), hole = SIZE_MAX;
  for (; t->slots[at] != EMPTY; at = (at + 1) & (t->room - 1)) {
    if (t->slots[at] == key) return at;
    if (t->slots[at] == REMOVED && hole == SIZE_MAX) hole = at;
  }
  return hole == SIZE_MAX ? at : hole;
}

static void grow(struct table *t) {
  struct table larger = {.room = t->count * 2 + 1024, .count = t->count, .used = t->count, .digest = t->digest};
  for (size_t power = 2048;; power *= 2)
    if (power >= larger.room) {
      larger.room = power;
      break;
    }
  larger.slots = calloc(larger.room, sizeof *larger.slots);
  if (!larger.slots) die("no memory for %zu prefixes", larger.room);
  for (size_t i = 0; i < t->room; i++)
    if (t->slots[i] > REMOVED) larger.slots[slot_of(&larger, t->slots[i])] = t->slots[i];
  free(t->slots);
  *t = larger;
}

bool table_has(const struct table *t, uint64_t key) {
  return t->room > 0 && t->slots[slot_of(t, key)] == key;
}

void table_add(struct table *t, uint64_t key) {
  if (t->used * 4 >= t->room * 3) grow(t);
  size_t at = slot_of(t, key);
  if (t->slots[at] == key) return;
  if (t->slots[at] == EMPTY) t->used++;
  t->slots[at] = key;
  t->count++;
  t->digest += digest_of(key);
}

void table_remove(struct table *t, uint64_t key) {
  if (!table_has(t, key)) return;
  t->slots[slot_of(t, key)] = REMOVED;
  t->count--;
  t->digest -= digest_of(key);
}
