/* What the runtime reads on standard output. */
#ifndef MARGAY_ANSWER_H
#define MARGAY_ANSWER_H
#include <stddef.h>

/* Codes of the CNI specification. */
enum { code_io = 5, code_decode = 6, code_config = 7, code_again = 11, code_unavailable = 50 };

/* The cniVersion that answers carry: the request's, once `find_version` has found it. */
extern char version[16];

/* Finds the "cniVersion" of the outermost object; the agent parses the rest. */
void find_version(const char *s, size_t n);
/* Writes it all or exits. */
void put_all(const char *bytes, size_t length);
/* Prints a CNI error object and exits 1. */
_Noreturn void fail(int code, const char *message, const char *details);
_Noreturn void out_of_memory(void);

#endif
