"""Another clock for a program: its wall clock can be set, and its monotonic one stays as it is.

libfaketime does the same, but a Redis with jemalloc does not start with it.
"""

import shutil
import subprocess
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long ahead(void) {
    char text[32] = "0";
    const char *name = getenv("OTHER_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    if (read(file, text, sizeof text - 1) < 1)
        text[0] = '0';
    close(file);
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
"""


class OtherClock:
    """The wall clock of the programs that are started with its environment."""

    def __init__(self, folder: Path, ahead: int = 0) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise SystemExit("No C compiler is installed, which another clock needs.")
        self._file = folder / "ahead"
        library = folder / "other_clock.so"
        subprocess.run(  # noqa: S603 - the installed one
            [compiler, "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)],
            input=_SOURCE.encode(),
            check=True,
        )
        self.environment: dict[str, str] = {"LD_PRELOAD": str(library), "OTHER_CLOCK": str(self._file)}
        self.set(ahead)

    def set(self, ahead: int) -> None:
        """Set it to so many seconds before this machine's."""
        written = self._file.with_suffix(".new")
        written.write_text(str(ahead))
        written.replace(self._file)
