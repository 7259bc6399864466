/*
 * A disk that loses at a power cut what was never synced, for processes under test: preloaded, it notes how to undo every
 * change below POWERCUT_DIR before the change is made, and forgets it when the change has become durable. A process may be
 * killed at any moment; the harness (chaos/src/disk/power.rs) then undoes what is still noted.
 *
 *   POWERCUT_DIR          the directory whose changes can be lost
 *   POWERCUT_SKIP         a name in it that is left alone, with all below it
 *   POWERCUT_JOURNAL      where the notes are kept: outside of POWERCUT_DIR, on the same file system
 *   POWERCUT_IGNORE_SYNC  if set, syncing does nothing and says it did: a power cut then loses everything
 *
 * What a file holds becomes durable by fsync or fdatasync of the file; the names in a directory by fsync of the directory.
 * Nothing becomes durable by itself. So a power cut here loses all that a disk may lose, but never a part of one change:
 * torn and reordered writes are for the storage's own tests.
 *
 * The journal's files, for the inode INO of a file or directory:
 *
 *   file-INO   a hard link to the file, by which it is found under whatever name, or none
 *   data-INO   what writes have replaced in the file, oldest first
 *   names-INO  what has become of the names in the directory, oldest first
 *   saved-…    a hard link to a file that has lost its name, for as long as it may get it back
 *
 * Only what goes through the C library is seen. The broker's one change that does not is fallocate by system call: it
 * adds zeros at a file's end, which no reader of ours minds finding after a power cut.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE = 1, SYNCED, CREATE, RENAME, UNLINK, MKDIR, RMDIR };

/* Before each note; power.rs reads the same. */
struct note {
  uint64_t kind;
  uint64_t at;      /* WRITE: the offset. SYNCED: the notes before this place in the journal are void. */
  uint64_t len;     /* WRITE: how many bytes were there, to be replaced. */
  uint64_t size;    /* WRITE: the file's size. */
  uint64_t inode;   /* RENAME, UNLINK: the inode that has the name. */
  uint64_t payload; /* How many bytes follow. WRITE: the replaced ones, none if all are zero. Else: names, each with a 0. */
};

/* An inode with a journal. */
struct inode {
  ino_t number;
  int directory;
  int journal;     /* data-INO or names-INO, to be appended to */
  int file;        /* file-INO; -1 for a directory */
  uint64_t len;    /* of the journal */
  uint64_t epochs; /* how often it was emptied */
};

enum { MAX_FDS = 65536, MAX_INODES = 4096, CHUNK = 1 << 20 };

static char dir[PATH_MAX], journal_dir[PATH_MAX], skip[NAME_MAX + 1];
static size_t dir_len;
static int enabled, ignore_sync;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ino_t fd_inode[MAX_FDS]; /* of descriptors opened below POWERCUT_DIR; 0 for all others */
static struct inode inodes[MAX_INODES];
static size_t inode_count;
static unsigned long saved_count;

static void die(const char *what) {
  fprintf(stderr, "power-cut layer: %s: %s\n", what, strerror(errno));
  abort();
}

__attribute__((constructor)) static void start(void) {
  const char *watched = getenv("POWERCUT_DIR"), *journal = getenv("POWERCUT_JOURNAL"), *skipped = getenv("POWERCUT_SKIP");
  if (!watched) return;
  if (!journal || snprintf(journal_dir, PATH_MAX, "%s", journal) >= PATH_MAX) die("POWERCUT_JOURNAL");
  if (snprintf(dir, PATH_MAX, "%s", watched) >= PATH_MAX || dir[0] != '/') die("POWERCUT_DIR");
  if (skipped) snprintf(skip, sizeof skip, "%s", skipped);
  dir_len = strlen(dir);
  ignore_sync = getenv("POWERCUT_IGNORE_SYNC") != NULL;
  enabled = 1;
}

/* The absolute path of `path`; returns whether changes to it can be lost. */
static int watched(int at, const char *path, char *absolute) {
  if (!enabled) return 0;
  char base[PATH_MAX] = "";
  if (path[0] != '/') {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t n = at == AT_FDCWD ? (getcwd(base, PATH_MAX) ? (ssize_t)strlen(base) : -1) : readlink(link, base, PATH_MAX - 1);
    if (n < 0) return 0;
    base[n] = 0;
  }
  if (snprintf(absolute, PATH_MAX, "%s%s%s", base, base[0] ? "/" : "", path) >= PATH_MAX) return 0;
  if (strncmp(absolute, dir, dir_len) != 0 || (absolute[dir_len] != '/' && absolute[dir_len] != 0)) return 0;
  const char *below = absolute + dir_len + (absolute[dir_len] == '/');
  size_t n = strlen(skip);
  return !(n && strncmp(below, skip, n) == 0 && (below[n] == '/' || below[n] == 0));
}

static void in_journal(char *path, const char *what, unsigned long number) {
  if (snprintf(path, PATH_MAX, "%s/%s-%lu", journal_dir, what, number) >= PATH_MAX) die("a path is too long");
}

/* ---- notes ---- */

static void append(struct inode *inode, struct note note, const void *payload) {
  struct iovec parts[2] = {{&note, sizeof note}, {(void *)payload, note.payload}};
  if (syscall(SYS_writev, inode->journal, parts, 2) != (long)(sizeof note + note.payload)) die("writing the journal");
  inode->len += sizeof note + note.payload;
}

/* Where the journal's whole notes end: a process may have been killed while it wrote one. */
static uint64_t whole(int journal) {
  struct stat stat;
  struct note note;
  uint64_t end = 0;
  if (fstat(journal, &stat)) die("looking at the journal");
  while (pread(journal, &note, sizeof note, end) == sizeof note && end + sizeof note + note.payload <= (uint64_t)stat.st_size)
    end += sizeof note + note.payload;
  if (end < (uint64_t)stat.st_size && syscall(SYS_ftruncate, journal, end)) die("cutting the journal");
  return end;
}

/* The inode's journal. Unless `path`, by which the inode can be linked, is given, NULL if there is none. */
static struct inode *journal_of(const struct stat *stat, const char *path) {
  for (size_t i = 0; i < inode_count; i++)
    if (inodes[i].number == stat->st_ino) return &inodes[i];
  char name[PATH_MAX];
  int directory = S_ISDIR(stat->st_mode);
  in_journal(name, directory ? "names" : "data", stat->st_ino);
  int journal = syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_APPEND | O_CLOEXEC | (path ? O_CREAT : 0), 0600);
  if (journal < 0 && !path) return NULL;
  if (journal < 0) die("opening a journal");
  int file = -1;
  if (!directory) {
    in_journal(name, "file", stat->st_ino);
    if (path && linkat(AT_FDCWD, path, AT_FDCWD, name, AT_SYMLINK_FOLLOW) && errno != EEXIST) die("linking a file");
    file = syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC, 0);
    if (file < 0) die("opening a linked file");
  }
  if (inode_count == MAX_INODES) die("too many files");
  inodes[inode_count] = (struct inode){stat->st_ino, directory, journal, file, whole(journal), 0};
  return &inodes[inode_count++];
}

/* Forgets a file that no longer has a name, nor may get one back. */
static void forget_nameless(unsigned long number) {
  char name[PATH_MAX];
  struct stat stat;
  in_journal(name, "file", number);
  if (lstat(name, &stat) || stat.st_nlink > 1) return;
  syscall(SYS_unlinkat, AT_FDCWD, name, 0);
  in_journal(name, "data", number);
  syscall(SYS_unlinkat, AT_FDCWD, name, 0);
  for (size_t i = 0; i < inode_count; i++)
    if (inodes[i].number == number) {
      syscall(SYS_close, inodes[i].journal);
      syscall(SYS_close, inodes[i].file);
      inodes[i] = inodes[--inode_count];
      return;
    }
}

/* Drops the hard links that were kept to undo the first `covered` bytes of a directory's notes. */
static void drop_saved(int journal, uint64_t covered) {
  struct note note;
  char names[3 * PATH_MAX];
  for (uint64_t at = 0; at < covered; at += sizeof note + note.payload) {
    if (pread(journal, &note, sizeof note, at) != sizeof note) die("reading the journal");
    if (note.kind != UNLINK && note.kind != RENAME) continue;
    if (pread(journal, names, note.payload, at + sizeof note) != (ssize_t)note.payload) die("reading the journal");
    const char *saved = names + strlen(names) + 1;
    if (note.kind == RENAME) saved += strlen(saved) + 1;
    struct stat stat;
    if (!*saved || lstat(saved, &stat)) continue;
    syscall(SYS_unlinkat, AT_FDCWD, saved, 0);
    forget_nameless(stat.st_ino);
  }
}

/* Notes what is about to be replaced in a file, or cut off its end. */
static void note_data(struct inode *inode, uint64_t size, uint64_t at, uint64_t len, int cut) {
  static char old[CHUNK];
  static const char zeros[CHUNK];
  uint64_t end = at + len < size ? at + len : size;
  append(inode, (struct note){.kind = WRITE, .at = at, .size = size}, NULL);
  while (at < end) {
    /* Preallocated space behind the end of what was written is a hole to those who look for data. */
    off_t data = cut ? lseek(inode->file, at, SEEK_DATA) : (off_t)at;
    if (data < 0 || (uint64_t)data >= end) return;
    at = data;
    size_t n = end - at < CHUNK ? end - at : CHUNK;
    if (pread(inode->file, old, n, at) != (ssize_t)n) die("reading what is to be replaced");
    int zero = memcmp(old, zeros, n) == 0;
    if (!cut || !zero)
      append(inode, (struct note){.kind = WRITE, .at = at, .len = n, .size = size, .payload = zero ? 0 : n}, old);
    at += n;
  }
}

/* Notes a change of names in the directory of `path`. */
static void note_names(enum kind kind, ino_t number, const char *path, const char *second, const char *third) {
  char parent[PATH_MAX], names[3 * PATH_MAX];
  struct stat stat;
  snprintf(parent, PATH_MAX, "%s", path);
  *strrchr(parent, '/') = 0;
  if (lstat(parent, &stat)) return; /* then the change will fail */
  size_t n = 0;
  const char *parts[3] = {path, second, third};
  for (int i = 0; i < 3 && parts[i]; i++) n += sprintf(names + n, "%s", parts[i]) + 1;
  append(journal_of(&stat, parent), (struct note){.kind = kind, .inode = number, .payload = n}, names);
}

/* Keeps a file that is about to lose the name `path`; an empty string if there is none. */
static const char *save(const char *path, char *saved) {
  struct stat stat;
  saved[0] = 0;
  if (lstat(path, &stat) || !S_ISREG(stat.st_mode)) return saved;
  do {
    in_journal(saved, "saved", (unsigned long)getpid() << 32 | ++saved_count);
  } while (linkat(AT_FDCWD, path, AT_FDCWD, saved, 0) && errno == EEXIST);
  return saved;
}

/* ---- what changes a file's content ---- */

/* If the descriptor's changes can be lost: locks, and returns its journal. */
static struct inode *enter(int fd, struct stat *stat) {
  if (!enabled || fd < 0 || fd >= MAX_FDS || !fd_inode[fd]) return NULL;
  if (fstat(fd, stat) || stat->st_ino != fd_inode[fd]) {
    fd_inode[fd] = 0; /* closed, and another file by now */
    return NULL;
  }
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (!S_ISREG(stat->st_mode) || stat->st_nlink == 0) return NULL;
  pthread_mutex_lock(&lock);
  return journal_of(stat, path);
}

/* A system call that writes `len` bytes at `at`, or where the file stands if that is -1. */
#define WRITES(fd, offset, length, call)                                                       \
  do {                                                                                         \
    struct stat stat;                                                                          \
    struct inode *inode = enter(fd, &stat);                                                    \
    if (inode) {                                                                               \
      off_t from = offset;                                                                     \
      if (from < 0) from = fcntl(fd, F_GETFL) & O_APPEND ? stat.st_size : lseek(fd, 0, SEEK_CUR); \
      note_data(inode, stat.st_size, from, length, 0);                                         \
    }                                                                                          \
    ssize_t written = call;                                                                    \
    if (inode) pthread_mutex_unlock(&lock);                                                    \
    return written;                                                                            \
  } while (0)

static size_t total(const struct iovec *parts, int count) {
  size_t sum = 0;
  for (int i = 0; i < count; i++) sum += parts[i].iov_len;
  return sum;
}

ssize_t write(int fd, const void *from, size_t n) { WRITES(fd, -1, n, syscall(SYS_write, fd, from, n)); }
ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at) { WRITES(fd, at, n, syscall(SYS_pwrite64, fd, from, n, at)); }
ssize_t pwrite(int fd, const void *from, size_t n, off_t at) { return pwrite64(fd, from, n, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) {
  WRITES(fd, -1, total(parts, count), syscall(SYS_writev, fd, parts, count));
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
  WRITES(fd, at, total(parts, count), syscall(SYS_pwritev, fd, parts, count, at, 0));
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return pwritev64(fd, parts, count, at); }

int ftruncate64(int fd, off64_t size) {
  struct stat stat;
  struct inode *inode = enter(fd, &stat);
  if (inode) note_data(inode, stat.st_size, size, size < stat.st_size ? stat.st_size - size : 0, 1);
  int result = syscall(SYS_ftruncate, fd, size);
  if (inode) pthread_mutex_unlock(&lock);
  return result;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int fallocate64(int fd, int mode, off64_t at, off64_t len) {
  struct stat stat;
  struct inode *inode = enter(fd, &stat);
  if (inode && mode) die("fallocate in this mode is not known");
  if (inode) note_data(inode, stat.st_size, stat.st_size, 0, 0);
  int result = syscall(SYS_fallocate, fd, mode, at, len);
  if (inode) pthread_mutex_unlock(&lock);
  return result;
}
int fallocate(int fd, int mode, off_t at, off_t len) { return fallocate64(fd, mode, at, len); }
int posix_fallocate64(int fd, off64_t at, off64_t len) { return fallocate64(fd, 0, at, len) ? errno : 0; }
int posix_fallocate(int fd, off_t at, off_t len) { return posix_fallocate64(fd, at, len); }

/* ---- what makes changes durable ---- */

static int sync_by(long number, int fd) {
  struct stat stat;
  if (!enabled || fd < 0 || fd >= MAX_FDS || !fd_inode[fd] || fstat(fd, &stat) || stat.st_ino != fd_inode[fd])
    return syscall(number, fd);
  if (ignore_sync) return 0;
  pthread_mutex_lock(&lock);
  struct inode *inode = journal_of(&stat, NULL);
  uint64_t covered = inode ? inode->len : 0, epochs = inode ? inode->epochs : 0;
  pthread_mutex_unlock(&lock);
  int result = syscall(number, fd);
  if (result || !covered) return result;
  pthread_mutex_lock(&lock);
  inode = journal_of(&stat, NULL);
  /* If it was emptied meanwhile, by a sync that covers the same, its notes are of later changes. */
  if (inode && inode->epochs == epochs) {
    if (inode->len == covered) {
      int journal = inode->journal;
      if (inode->directory) drop_saved(journal, covered);
      inode = journal_of(&stat, NULL); /* the table may have moved */
      if (syscall(SYS_ftruncate, journal, 0)) die("emptying a journal");
      inode->len = 0;
      inode->epochs++;
    } else {
      append(inode, (struct note){.kind = SYNCED, .at = covered}, NULL);
    }
  }
  pthread_mutex_unlock(&lock);
  return result;
}

int fsync(int fd) { return sync_by(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_by(SYS_fdatasync, fd); }

/* ---- what changes names ---- */

static int open_at(int at, const char *path, int flags, mode_t mode) {
  char absolute[PATH_MAX];
  if (!watched(at, path, absolute)) return syscall(SYS_openat, at, path, flags, mode);
  struct stat stat;
  pthread_mutex_lock(&lock);
  if (lstat(absolute, &stat)) {
    if (flags & O_CREAT) note_names(CREATE, 0, absolute, NULL, NULL);
  } else if (flags & O_TRUNC && S_ISREG(stat.st_mode)) {
    note_data(journal_of(&stat, absolute), stat.st_size, 0, stat.st_size, 1);
  }
  int fd = syscall(SYS_openat, at, path, flags, mode);
  int error = errno;
  if (fd >= MAX_FDS) die("too many open files");
  if (fd >= 0 && !fstat(fd, &stat)) fd_inode[fd] = S_ISREG(stat.st_mode) || S_ISDIR(stat.st_mode) ? stat.st_ino : 0;
  pthread_mutex_unlock(&lock);
  errno = error;
  return fd;
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

int renameat(int from_at, const char *from, int to_at, const char *to) {
  char old[PATH_MAX] = "/", new[PATH_MAX] = "/", saved[PATH_MAX];
  int leaves = watched(from_at, from, old), arrives = watched(to_at, to, new);
  if (!leaves && !arrives) return syscall(SYS_renameat, from_at, from, to_at, to);
  if (strrchr(old, '/') - old != strrchr(new, '/') - new || strncmp(old, new, strrchr(old, '/') - old))
    die("a rename between directories is not known");
  struct stat stat;
  pthread_mutex_lock(&lock);
  if (!lstat(old, &stat)) note_names(RENAME, stat.st_ino, new, old, save(new, saved));
  int result = syscall(SYS_renameat, from_at, from, to_at, to);
  pthread_mutex_unlock(&lock);
  return result;
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlinkat(int at, const char *path, int flags) {
  char absolute[PATH_MAX], saved[PATH_MAX];
  if (!watched(at, path, absolute)) return syscall(SYS_unlinkat, at, path, flags);
  struct stat stat;
  pthread_mutex_lock(&lock);
  if (!lstat(absolute, &stat)) {
    if (flags & AT_REMOVEDIR) note_names(RMDIR, stat.st_ino, absolute, NULL, NULL);
    else note_names(UNLINK, stat.st_ino, absolute, save(absolute, saved), NULL);
  }
  int result = syscall(SYS_unlinkat, at, path, flags);
  pthread_mutex_unlock(&lock);
  return result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int at, const char *path, mode_t mode) {
  char absolute[PATH_MAX];
  if (!watched(at, path, absolute)) return syscall(SYS_mkdirat, at, path, mode);
  struct stat stat;
  pthread_mutex_lock(&lock);
  if (strlen(absolute) > dir_len && lstat(absolute, &stat)) note_names(MKDIR, 0, absolute, NULL, NULL);
  int result = syscall(SYS_mkdirat, at, path, mode);
  pthread_mutex_unlock(&lock);
  return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* ---- the rest ---- */

int fcntl(int fd, int command, ...) {
  va_list rest;
  va_start(rest, command);
  void *argument = va_arg(rest, void *);
  va_end(rest);
  int result = syscall(SYS_fcntl, fd, command, argument);
  int copied = command == F_DUPFD || command == F_DUPFD_CLOEXEC;
  if (enabled && copied && result >= 0 && result < MAX_FDS && fd < MAX_FDS) fd_inode[result] = fd_inode[fd];
  return result;
}

/* A change that could not be undone must not go unnoticed. */
static void refuse(const char *path, const char *what) {
  char absolute[PATH_MAX];
  if (watched(AT_FDCWD, path, absolute)) die(what);
}

int link(const char *from, const char *to) {
  refuse(to, "link is not known");
  return syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
  refuse(to, "linkat is not known");
  return syscall(SYS_linkat, from_at, from, to_at, to, flags);
}
int symlink(const char *from, const char *to) {
  refuse(to, "symlink is not known");
  return syscall(SYS_symlinkat, from, AT_FDCWD, to);
}
int truncate64(const char *path, off64_t size) {
  refuse(path, "truncate is not known");
  return syscall(SYS_truncate, path, size);
}
int truncate(const char *path, off_t size) { return truncate64(path, size); }
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t n, unsigned flags) {
  if (enabled && to >= 0 && to < MAX_FDS && fd_inode[to]) die("copy_file_range is not known");
  return syscall(SYS_copy_file_range, from, from_at, to, to_at, n, flags);
}
