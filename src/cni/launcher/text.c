#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"

void append(struct text *to, const char *bytes, size_t length) {
  if (to->capacity - to->length < length) {
    size_t capacity = (to->length + length) * 2;
    char *larger = realloc(to->bytes, capacity);
    if (larger == NULL) {
      out_of_memory();
    }
    to->bytes = larger;
    to->capacity = capacity;
  }
  memcpy(to->bytes + to->length, bytes, length);
  to->length += length;
}

void append_text(struct text *to, const char *text) { append(to, text, strlen(text)); }

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

void append_json(struct text *to, const char *bytes, size_t length) {
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

const char *text_of(struct text *from) {
  append(from, "", 1);
  from->length--;
  return from->bytes;
}
