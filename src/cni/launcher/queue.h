/* DELs that wait for the agent, each a file of its own. */
#ifndef MARGAY_QUEUE_H
#define MARGAY_QUEUE_H
#include <stddef.h>

/*
 * Writes a request into the queue's folder, so that it is there whole, and on the disk, or not at all.
 * NULL on success, else why not.
 */
const char *queue_removal(const char *folder, const char *request, size_t length);

#endif
