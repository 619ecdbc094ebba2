#define _GNU_SOURCE
#include "queue.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/*
 * A file's name is "del-<nanoseconds since 1970, 19 digits>-<process>.json": the agent takes them in their order. It
 * is written under another name first, which the agent leaves alone.
 */
static const char prefix[] = "del-";

enum { max_entries = 4096, max_octets = 64 << 10 };

static char reason[256];

static const char *because(const char *action, const char *what) {
  snprintf(reason, sizeof reason, "%s: %.160s", action, what);
  return reason;
}

/* Makes the folder, for root alone, and what leads to it. */
static const char *make_folder(const char *folder) {
  char path[PATH_MAX];
  size_t length = strlen(folder);
  if (length == 0 || length >= sizeof path || folder[0] != '/') return "its path is not absolute";
  memcpy(path, folder, length + 1);
  for (size_t i = 1; i <= length; i++) {
    if (path[i] != '/' && path[i] != 0) continue;
    path[i] = 0;
    if (mkdir(path, i == length ? 0700 : 0755) < 0 && errno != EEXIST) return because(path, strerror(errno));
    path[i] = folder[i];
  }
  return NULL;
}

/* Requests that wait in the folder; -1 when it cannot be read. */
static int waiting(int folder) {
  int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), count = 0;
  DIR *entries = copy < 0 ? NULL : fdopendir(copy);
  if (entries == NULL) {
    if (copy >= 0) close(copy);
    return -1;
  }
  for (struct dirent *entry; (entry = readdir(entries)) != NULL;)
    if (strncmp(entry->d_name, prefix, sizeof prefix - 1) == 0) count++;
  closedir(entries);
  return count;
}

static int write_all(int file, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t n = write(file, bytes, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return -1;
    bytes += n;
    length -= (size_t)n;
  }
  return 0;
}

/* The file under its first name, on the disk. */
static int write_file(int folder, const char *name, const char *bytes, size_t length) {
  int file = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  int failed = file < 0 || write_all(file, bytes, length) < 0 || fsync(file) < 0;
  if (file >= 0 && close(file) < 0) failed = 1;
  return failed ? -1 : 0;
}

static const char *place(int folder, const char *request, size_t length) {
  struct timespec now;
  char name[64], beside[72];
  int count = waiting(folder);
  if (count < 0) return because("it cannot be read", strerror(errno));
  if (count >= max_entries) return "4096 requests wait in it already";
  clock_gettime(CLOCK_REALTIME, &now);
  snprintf(name, sizeof name, "%s%010lld%09ld-%d.json", prefix, (long long)now.tv_sec, now.tv_nsec, (int)getpid());
  snprintf(beside, sizeof beside, ".new-%s", name);
  if (write_file(folder, beside, request, length) < 0 || renameat(folder, beside, folder, name) < 0) {
    const char *why = because("it cannot be written", strerror(errno));
    unlinkat(folder, beside, 0);
    return why;
  }
  return fsync(folder) < 0 ? because("it cannot be flushed", strerror(errno)) : NULL;
}

const char *queue_removal(const char *folder, const char *request, size_t length) {
  const char *problem = length > max_octets ? "the request is longer than 64 KiB" : make_folder(folder);
  if (problem != NULL) return problem;
  int opened = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (opened < 0) return because("it cannot be opened", strerror(errno));
  problem = place(opened, request, length);
  close(opened);
  return problem;
}
