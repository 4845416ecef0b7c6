/* step.h - named points between the steps of the protocols, at which a test ends or holds a process.
 *
 * In an ordinary build RP_STEP is nothing, and step.c is empty. Built with RP_CRASH_POINTS (setup.py: the environment
 * variable RINGPOOL_CRASH_POINTS), each RP_STEP("name") stands in a list that a test can read, and a process in which
 * the name is armed kills itself there: exactly between two operations on shared words. A name says what has been done.
 * They stand where workers pass, for with the parent the pool dies; where a thread of the parent lies down, it can be
 * held.
 *
 * A name is "group: what". One point may be passed in several ways (a bell is rung for many reasons), and then the way
 * is told by the last step of another group.
 */
#ifndef RP_STEP_H
#define RP_STEP_H

#ifdef RP_CRASH_POINTS

#include <stdint.h>

#define RP_STEP_TEST_API __attribute__((visibility("default")))

#define RP_STEP(name)                                                                      \
    do {                                                                                   \
        static const char *rp_step_here __attribute__((section("rp_steps"), used)) = name; \
        rp_step_pass(rp_step_here);                                                        \
    } while (0)

void rp_step_pass(const char *name);

/* For tests, by ctypes. The names, NULL after the last. One in a header's function is listed once a file that has it. */
RP_STEP_TEST_API const char *rp_step_name(uint32_t i);

/* Once it has passed `from` ("": from now on), this process dies when it passes `at` for the nth time, counting only
 * those passings where the last step of another group was `after` ("": any). nth 0: never. */
RP_STEP_TEST_API void rp_step_arm(const char *from, const char *after, const char *at, uint64_t nth);

/* This process sleeps so long whenever it passes `at`; so a test gets between two steps. "" for nowhere. */
RP_STEP_TEST_API void rp_step_hold(const char *at, uint64_t ns);

#else
#define RP_STEP(name) ((void)(name))
#endif

#endif
