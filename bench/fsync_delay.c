/* Makes every fsync and fdatasync take FSYNC_DELAY_US longer, as on a disk that really waits. LD_PRELOAD it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static useconds_t delay_us(void) {
    static long delay = -1;
    if (delay < 0) {
        const char *text = getenv("FSYNC_DELAY_US");
        delay = text ? atol(text) : 1000;
    }
    return (useconds_t)delay;
}

int fsync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    usleep(delay_us());
    return real(file);
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    usleep(delay_us());
    return real(file);
}
