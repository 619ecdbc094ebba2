/* Growing text, and JSON strings written into it. */
#ifndef MARGAY_TEXT_H
#define MARGAY_TEXT_H
#include <stddef.h>

struct text {
  char *bytes;
  size_t length;
  size_t capacity;
};

void append(struct text *to, const char *bytes, size_t length);
void append_text(struct text *to, const char *text);
/* A JSON string: controls escaped, octets that are no UTF-8 replaced by U+FFFD. */
void append_json(struct text *to, const char *bytes, size_t length);
/* What was appended so far, as a C string. */
const char *text_of(struct text *from);

#endif
