"""Has the kernel refuse system calls to this process and its children, as a container's seccomp profile does.

See seccomp(2) and linux/filter.h. No name of a call is known here beyond those that the tests use.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

# machine -> (AUDIT_ARCH_*, {call: number})
_MACHINES = {
    "x86_64": (
        0xC000003E,
        {"pidfd_open": 434, "pidfd_send_signal": 424, "eventfd2": 290, "sched_getaffinity": 204, "memfd_create": 319},
    ),
    "aarch64": (
        0xC00000B7,
        {"pidfd_open": 434, "pidfd_send_signal": 424, "eventfd2": 19, "sched_getaffinity": 123, "memfd_create": 279},
    ),
}

SUPPORTED = platform.machine() in _MACHINES and ctypes.sizeof(ctypes.c_void_p) == 8

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER_MODE = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def refuse(*calls: str, code: int = errno.EPERM) -> None:
    """From now on these calls fail with this error.

    Raises:
        OSError: The kernel has no such filters.
    """
    audit, numbers = _MACHINES[platform.machine()]
    steps = [(_LOAD, 0, 0, 4), (_JUMP_IF_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 0)]
    for call in calls:
        steps += [(_JUMP_IF_EQUAL, 0, 1, numbers[call]), (_RETURN, 0, 0, _ERRNO | code)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.cast(text, ctypes.c_void_p).value)
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program))):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")
