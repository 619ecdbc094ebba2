#include "answer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

char version[16] = "1.0.0";

void put_all(const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t n = write(STDOUT_FILENO, bytes, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) exit(1);
    bytes += n;
    length -= (size_t)n;
  }
}

_Noreturn void out_of_memory(void) {
  static const char message[] = "{\"cniVersion\":\"1.0.0\",\"code\":5,\"msg\":\"out of memory\"}\n";
  put_all(message, sizeof message - 1);
  exit(1);
}

_Noreturn void fail(int code, const char *message, const char *details) {
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

void find_version(const char *s, size_t n) {
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
