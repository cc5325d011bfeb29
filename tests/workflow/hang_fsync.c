/* A disk that hangs: while the file that HANG_WHILE names is there, no write or sync of the record returns. Loaded into the
   program by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void hang(int fd) {
    const char *gate = getenv("HANG_WHILE");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (gate == NULL || length < 0) return;
    path[length] = 0;
    if (strstr(path, "record.db") == NULL) return;
    while (access(gate, F_OK) == 0) usleep(5000);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *from, size_t size) { hang(fd); return REAL(write)(fd, from, size); }
ssize_t pwrite(int fd, const void *from, size_t size, off_t at) { hang(fd); return REAL(pwrite)(fd, from, size, at); }
ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) { hang(fd); return REAL(pwrite64)(fd, from, size, at); }
int fsync(int fd) { hang(fd); return REAL(fsync)(fd); }
int fdatasync(int fd) { hang(fd); return REAL(fdatasync)(fd); }
