"""Explains an error of the system: which limit or refused system call it comes from, and what to change."""

from __future__ import annotations

import errno
import resource

from ringpool import machine

_LIMITS = {
    errno.EMFILE: (resource.RLIMIT_NOFILE, "RLIMIT_NOFILE allows this process {} descriptors (see ulimit -n)"),
    errno.EAGAIN: (resource.RLIMIT_NPROC, "RLIMIT_NPROC allows this user {} processes and threads (see ulimit -u)"),
    errno.EFBIG: (resource.RLIMIT_FSIZE, "RLIMIT_FSIZE allows files, and shared memory, of {} bytes (see ulimit -f)"),
    errno.ENOMEM: (resource.RLIMIT_AS, "RLIMIT_AS allows {} bytes of address space (see ulimit -v)"),
}


def explained(error: Exception, call: str | None = None) -> Exception:
    """Adds to an error the limit that is too small, or the system call that is not allowed.

    Args:
        error: Raised where a process, a thread, a descriptor or memory was requested.
        call: The system call that raised it, if it is one that ringpool needs and a sandbox may refuse.

    Returns:
        An error of the same type; the error itself if there is nothing to add.
    """
    code = error.errno if isinstance(error, OSError) else None
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return RuntimeError(f"{error}: {_limit(errno.EAGAIN)}")
    if code in _LIMITS:
        sentence = _limit(code)
    elif isinstance(error, OSError) and machine.is_refused(error) and call is not None:
        sentence = (
            f"the system refuses {call}, which ringpool needs (a temporary file, for example, cannot be sealed against "
            "a change of its size): allow it in the sandbox's seccomp profile"
        )
    else:
        return error
    assert isinstance(error, OSError)
    return OSError(code, f"{error.strerror}: {sentence}")


def _limit(code: int) -> str:
    which, sentence = _LIMITS[code]
    soft, _ = resource.getrlimit(which)
    if soft == resource.RLIM_INFINITY:
        name = sentence.partition(" ")[0]
        return f"{name} is unlimited here, so the limit is the system's or the control group's"
    return sentence.format(soft)
