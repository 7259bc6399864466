/*
 * A disk that fails when it is told to, for processes under test: preloaded, it makes writes or syncs below TROUBLE_DIR
 * fail for as long as the file TROUBLE_ORDER is there.
 *
 *   TROUBLE_DIR    the directory whose files fail
 *   TROUBLE_ORDER  "w N": writes, extensions and creations of files fail with errno N. "s N": so do syncs, and only they.
 *
 * Only what goes through the C library is seen, so not the broker's fallocate by system call.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *dir, *order;

__attribute__((constructor)) static void start(void) {
  dir = getenv("TROUBLE_DIR");
  order = getenv("TROUBLE_ORDER");
}

/* Whether the operation is to fail; errno is set then. */
static int fails(char operation) {
  if (!order) return 0;
  int fd = syscall(SYS_openat, AT_FDCWD, order, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return 0;
  char text[16] = "";
  ssize_t n = read(fd, text, sizeof text - 1);
  syscall(SYS_close, fd);
  if (n < 3 || text[0] != operation) return 0;
  errno = atoi(text + 2);
  return 1;
}

static int below(const char *path) {
  size_t n = dir ? strlen(dir) : 0;
  return n && strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == 0);
}

static int watched(int fd) {
  char link[64], path[PATH_MAX];
  if (!dir) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, PATH_MAX - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return below(path);
}

/* Errors of ours come before the look at /proc: most of the time there are none. */
#define CALL(operation, fd, call)                           \
  do {                                                      \
    int before = errno;                                     \
    if (fails(operation)) {                                 \
      int error = errno;                                    \
      if (watched(fd)) return errno = error, -1;            \
    }                                                       \
    errno = before;                                         \
    return call;                                            \
  } while (0)

ssize_t write(int fd, const void *from, size_t n) { CALL('w', fd, syscall(SYS_write, fd, from, n)); }
ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at) { CALL('w', fd, syscall(SYS_pwrite64, fd, from, n, at)); }
ssize_t pwrite(int fd, const void *from, size_t n, off_t at) { return pwrite64(fd, from, n, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) { CALL('w', fd, syscall(SYS_writev, fd, parts, count)); }
int ftruncate64(int fd, off64_t size) { CALL('w', fd, syscall(SYS_ftruncate, fd, size)); }
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fsync(int fd) { CALL('s', fd, syscall(SYS_fsync, fd)); }
int fdatasync(int fd) { CALL('s', fd, syscall(SYS_fdatasync, fd)); }
int sync_file_range(int fd, off64_t at, off64_t n, unsigned flags) {
  CALL('s', fd, syscall(SYS_sync_file_range, fd, at, n, flags));
}

static int open_at(int at, const char *path, int flags, mode_t mode) {
  int before = errno;
  if (flags & O_CREAT && path[0] == '/' && below(path) && fails('w')) return -1;
  errno = before;
  return syscall(SYS_openat, at, path, flags, mode);
}

#define MODE_OF(flags)                            \
  mode_t mode = 0;                                \
  if ((flags) & (O_CREAT | O_TMPFILE)) {          \
    va_list rest;                                 \
    va_start(rest, flags);                        \
    mode = va_arg(rest, mode_t);                  \
    va_end(rest);                                 \
  }

int open64(const char *path, int flags, ...) { MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open(const char *path, int flags, ...) { MODE_OF(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE_OF(flags) return open_at(at, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE_OF(flags) return open_at(at, path, flags, mode); }
