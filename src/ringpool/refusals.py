"""What the system refuses: which system call or limit it is, and what to allow."""

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
    """An error with the limit in its text that is too small, or the system call that is not allowed.

    Args:
        error: What was raised where a process, a thread, a descriptor or memory was wanted.
        call: The system call that it comes from, if it is one that a sandbox may refuse and there is no way without.

    Returns:
        One of the same type; the error itself if there is nothing to say.
    """
    code = error.errno if isinstance(error, OSError) else None
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return RuntimeError(f"{error}: {_limit(errno.EAGAIN)}")
    if code in _LIMITS:
        sentence = _limit(code)
    elif isinstance(error, OSError) and machine.is_refused(error) and call is not None:
        sentence = (
            f"the system refuses {call}, and there is no way without (a temporary file, for one, cannot be sealed "
            "against a change of its size): allow it in the sandbox's seccomp profile"
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
        return f"{name} is no limit here: it is the system's, or the control group's"
    return sentence.format(soft)
