/* quiet_fork.c - loaded before a program with AddressSanitizer: a fork waits until the other threads are asleep.
 *
 * Before GCC 15 and LLVM 18 the sanitizer's allocator does nothing about its locks when a process forks. A lock that
 * another thread has then stays locked in the child for ever, and its next malloc() hangs. CPython forks with the GIL, so
 * other threads allocate nothing but where they begin and end: a pool that starts as another one ends forks at such a
 * moment about once in a thousand times. A thread that sleeps has no lock of the allocator.
 */
#include <dirent.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Of a millisecond. Fewer: a lock may be held. More: where threads never all sleep, each fork takes so long; arbitrary. */
#define TRIES 500

/* One that has ended meanwhile runs no more. */
static bool runs(const char *tid)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%s/stat", tid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    const char *name_end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    fclose(file);
    return name_end && strchr("RD", name_end[2]);
}

static bool any_other_runs(void)
{
    DIR *tasks = opendir("/proc/self/task");
    bool found = false;
    if (!tasks)
        return false;
    for (struct dirent *each; !found && (each = readdir(tasks));)
        found = each->d_name[0] != '.' && atoi(each->d_name) != gettid() && runs(each->d_name);
    closedir(tasks);
    return found;
}

static void wait_for_others(void)
{
    for (int i = 0; i < TRIES && any_other_runs(); i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

__attribute__((constructor)) static void begin(void)
{
    pthread_atfork(wait_for_others, NULL, NULL);
}
