/* The clock of a program, SHIFT_S seconds away from the system's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static time_t shift(void)
{
    const char *seconds = getenv("SHIFT_S");
    return seconds ? (time_t) atoll(seconds) : 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(at, zone);
    at->tv_sec += shift();
    return result;
}

time_t time(time_t *at)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, at);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        at->tv_sec += shift();
    return result;
}
