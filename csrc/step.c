#include "step.h"

#ifdef RP_CRASH_POINTS

#include "os.h"

#include <signal.h>
#include <string.h>

/* The linker makes these for a section of this name. */
extern const char *__start_rp_steps[] __attribute__((visibility("hidden")));
extern const char *__stop_rp_steps[] __attribute__((visibility("hidden")));

#define NAME_BYTES 64

/* Of the one thread that runs the worker's loop. */
static char from_name[NAME_BYTES], after_name[NAME_BYTES], at_name[NAME_BYTES], hold_name[NAME_BYTES];
static const char *last = "", *before = ""; /* the last step, and the last of another group than that */
static uint64_t passes_left; /* of at_name; 0: not armed */
static uint64_t hold_ns;

static bool same_group(const char *a, const char *b)
{
    size_t n = strcspn(a, ":");
    return strncmp(a, b, n) == 0 && b[n] == ':';
}

void rp_step_pass(const char *name)
{
    if (!same_group(name, last))
        before = last;
    last = name;
    if (hold_ns && strcmp(name, hold_name) == 0)
        (void)rp_os_nap(hold_ns);
    if (passes_left == 0)
        return;
    if (from_name[0]) {
        if (strcmp(name, from_name) == 0)
            from_name[0] = '\0';
        return;
    }
    if (strcmp(name, at_name) == 0 && (!after_name[0] || strcmp(before, after_name) == 0) && --passes_left == 0)
        (void)raise(SIGKILL);
}

const char *rp_step_name(uint32_t i)
{
    return i < (uint64_t)(__stop_rp_steps - __start_rp_steps) ? __start_rp_steps[i] : NULL;
}

void rp_step_arm(const char *from, const char *after, const char *at, uint64_t nth)
{
    strncpy(from_name, from, NAME_BYTES - 1);
    strncpy(after_name, after, NAME_BYTES - 1);
    strncpy(at_name, at, NAME_BYTES - 1);
    passes_left = nth;
}

void rp_step_hold(const char *at, uint64_t ns)
{
    strncpy(hold_name, at, NAME_BYTES - 1);
    hold_ns = ns;
}

#endif
