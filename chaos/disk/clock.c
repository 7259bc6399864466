/*
 * A wall clock that is wrong by as much as it is told, for processes under test: preloaded, it adds the seconds in the file
 * CLOCK_OFFSET (one signed integer of eight bytes, of the machine's own order) to what CLOCK_REALTIME says. All other
 * clocks are right.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *offset;

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("CLOCK_OFFSET");
  int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *shared = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (shared != MAP_FAILED) offset = shared;
}

int clock_gettime(clockid_t id, struct timespec *told) {
  static int (*right)(clockid_t, struct timespec *);
  if (!right) right = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int result = right(id, told);
  if (result == 0 && offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) told->tv_sec += *offset;
  return result;
}
