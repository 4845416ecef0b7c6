/* large_pages.c - preloaded into a program, to which the system then says that its pages are larger than any. */
#include <dlfcn.h>
#include <unistd.h>

long sysconf(int name)
{
    long (*real)(int);
    *(void **)&real = dlsym(RTLD_NEXT, "sysconf");
    return name == _SC_PAGESIZE ? 131072 : real(name);
}
