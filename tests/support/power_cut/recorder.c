/* Records what a process does to the files below one folder. Loaded with LD_PRELOAD.
 *
 * This library only records; `disk.py` reads the record and computes what a disk would hold after
 * a power cut. The record contains every open, close, write, truncation, rename, creation and
 * deletion below POWER_CUT_FOLDER, in the order in which they took effect, and when each fsync
 * began and ended. It is appended to the file POWER_CUT_RECORD with plain writes: a SIGKILL does
 * not undo those.
 *
 * Changes through a mapping (mmap) cannot be recorded. Kafka maps only its indexes, which
 * `disk.py` clears. The functions here are those that Java 17 calls (`nm -D libjava.so libnio.so`).
 * A change that was made in any other way is found: `disk.py` compares the folder with the record.
 *
 * The kernel is called directly, because the first calls arrive before dlsym can be used.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The numbers and the layout are those of `Operation` and `HEADER` in disk.py. */
enum operation {
  OPENED = 1, CLOSED, WRITTEN, TRUNCATED, SYNC_BEGINS, SYNC_ENDS, RENAMED, CREATED_DIRECTORY, REMOVED
};

struct header {
  int32_t operation;
  int32_t descriptor;
  int64_t number; /* OPENED: flags; WRITTEN: position; TRUNCATED: size; SYNC_*: of the sync */
  int64_t length; /* of the payload: the data or the path, of RENAMED both with a NUL between */
};

#define MAX_DESCRIPTORS 65536
#define NONE (-1)

static const char *folder;
static size_t folder_length;
static int record = NONE;
static int64_t syncs;
static unsigned char followed[MAX_DESCRIPTORS]; /* by descriptor: open, and below the folder */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int (*libc_closedir)(DIR *);

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("POWER_CUT_RECORD");
  libc_closedir = (int (*)(DIR *))dlsym(RTLD_NEXT, "closedir");
  folder = getenv("POWER_CUT_FOLDER");
  if (path == NULL || folder == NULL) {
    folder = NULL;
    return;
  }
  folder_length = strlen(folder);
  record = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (record < 0) abort();
}

/* An operation and its entry in the record are one: the mutex keeps other threads out, and the
 * file lock keeps the power cut out, which takes the same lock before it kills this process. */
static void lock(void) {
  pthread_mutex_lock(&mutex);
  while (syscall(SYS_flock, record, LOCK_EX) != 0)
    if (errno != EINTR) abort();
}

static void unlock(void) {
  syscall(SYS_flock, record, LOCK_UN);
  pthread_mutex_unlock(&mutex);
}

static void append(const void *data, size_t length) {
  const char *next = data;
  while (length > 0) {
    long written = syscall(SYS_write, record, next, length);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) abort(); /* an incomplete record would prove nothing */
    next += written;
    length -= written;
  }
}

static void note(int operation, int descriptor, int64_t number, const void *data, size_t length) {
  struct header header = {operation, descriptor, number, length};
  append(&header, sizeof header);
  append(data, length);
}

static int is_below(const char *path) {
  return folder != NULL && path != NULL && strncmp(path, folder, folder_length) == 0 &&
         (path[folder_length] == '/' || path[folder_length] == '\0');
}

static int is_followed(int descriptor) {
  return descriptor >= 0 && descriptor < MAX_DESCRIPTORS && followed[descriptor];
}

static void note_path(int operation, int descriptor, int64_t number, const char *path) {
  note(operation, descriptor, number, path + folder_length, strlen(path) - folder_length);
}

/* --- opening and closing ------------------------------------------------------------------- */

static int open_at(const char *path, int flags, mode_t mode) {
  if (!is_below(path)) return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  lock();
  int descriptor = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  if (descriptor >= MAX_DESCRIPTORS) abort();
  if (descriptor >= 0) {
    followed[descriptor] = 1;
    note_path(OPENED, descriptor, flags, path);
  }
  unlock();
  return descriptor;
}

static mode_t mode_of(int flags, va_list arguments) {
  return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(arguments, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_at(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_at(path, flags, mode);
}

int __open_2(const char *path, int flags) { return open_at(path, flags, 0); }

static void stop_following(int descriptor) {
  followed[descriptor] = 0;
  note(CLOSED, descriptor, 0, "", 0);
}

int close(int descriptor) {
  if (!is_followed(descriptor)) return syscall(SYS_close, descriptor);
  lock();
  stop_following(descriptor);
  int result = syscall(SYS_close, descriptor);
  unlock();
  return result;
}

/* It closes the descriptor inside of libc, and the next socket may get the same number. */
int closedir(DIR *directory) {
  int descriptor = dirfd(directory);
  if (!is_followed(descriptor)) return libc_closedir(directory);
  lock();
  stop_following(descriptor);
  int result = libc_closedir(directory);
  unlock();
  return result;
}

/* --- content -------------------------------------------------------------------------------- */

ssize_t write(int descriptor, const void *data, size_t length) {
  if (!is_followed(descriptor)) return syscall(SYS_write, descriptor, data, length);
  lock();
  ssize_t written = syscall(SYS_write, descriptor, data, length);
  if (written > 0) /* the position after the write: with O_APPEND the one before is not known */
    note(WRITTEN, descriptor, lseek(descriptor, 0, SEEK_CUR) - written, data, written);
  unlock();
  return written;
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
  if (!is_followed(descriptor)) return syscall(SYS_writev, descriptor, parts, count);
  lock();
  ssize_t written = syscall(SYS_writev, descriptor, parts, count);
  int64_t position = written > 0 ? lseek(descriptor, 0, SEEK_CUR) - written : 0;
  for (ssize_t left = written; left > 0; parts++) {
    size_t length = parts->iov_len < (size_t)left ? parts->iov_len : (size_t)left;
    note(WRITTEN, descriptor, position, parts->iov_base, length);
    position += length;
    left -= length;
  }
  unlock();
  return written;
}

ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t position) {
  if (!is_followed(descriptor)) return syscall(SYS_pwrite64, descriptor, data, length, position);
  lock();
  ssize_t written = syscall(SYS_pwrite64, descriptor, data, length, position);
  if (written > 0) note(WRITTEN, descriptor, position, data, written);
  unlock();
  return written;
}

ssize_t pwrite(int descriptor, const void *data, size_t length, off_t position) {
  return pwrite64(descriptor, data, length, position);
}

int ftruncate64(int descriptor, off64_t size) {
  if (!is_followed(descriptor)) return syscall(SYS_ftruncate, descriptor, size);
  lock();
  int result = syscall(SYS_ftruncate, descriptor, size);
  if (result == 0) note(TRUNCATED, descriptor, size, "", 0);
  unlock();
  return result;
}

int ftruncate(int descriptor, off_t size) { return ftruncate64(descriptor, size); }

/* --- durability ----------------------------------------------------------------------------- */

/* Only what was written before the call began counts as durable, and only once the call has
 * returned. Other threads continue meanwhile. */
static int sync_with(long call, int descriptor) {
  if (!is_followed(descriptor)) return syscall(call, descriptor);
  lock();
  int64_t number = ++syncs;
  note(SYNC_BEGINS, descriptor, number, "", 0);
  unlock();
  int result = syscall(call, descriptor);
  if (result != 0) return result;
  lock();
  note(SYNC_ENDS, descriptor, number, "", 0);
  unlock();
  return 0;
}

int fsync(int descriptor) { return sync_with(SYS_fsync, descriptor); }

int fdatasync(int descriptor) { return sync_with(SYS_fdatasync, descriptor); }

/* --- names ---------------------------------------------------------------------------------- */

int rename(const char *from, const char *to) {
  if (!is_below(from) || !is_below(to))
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
  lock();
  int result = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
  if (result == 0) {
    const char *first = from + folder_length, *second = to + folder_length;
    struct header header = {RENAMED, NONE, 0, strlen(first) + 1 + strlen(second)};
    append(&header, sizeof header);
    append(first, strlen(first) + 1);
    append(second, strlen(second));
  }
  unlock();
  return result;
}

int mkdir(const char *path, mode_t mode) {
  if (!is_below(path)) return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
  lock();
  int result = syscall(SYS_mkdirat, AT_FDCWD, path, mode);
  if (result == 0) note_path(CREATED_DIRECTORY, NONE, 0, path);
  unlock();
  return result;
}

static int remove_at(const char *path, int flags) {
  if (!is_below(path)) return syscall(SYS_unlinkat, AT_FDCWD, path, flags);
  lock();
  int result = syscall(SYS_unlinkat, AT_FDCWD, path, flags);
  if (result == 0) note_path(REMOVED, NONE, 0, path);
  unlock();
  return result;
}

int unlink(const char *path) { return remove_at(path, 0); }

int rmdir(const char *path) { return remove_at(path, AT_REMOVEDIR); }

int remove(const char *path) {
  int result = remove_at(path, 0);
  return result != 0 && errno == EISDIR ? remove_at(path, AT_REMOVEDIR) : result;
}
