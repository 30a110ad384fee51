"""How many files and sockets this process may have open at once."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import resource


def allow_all_descriptors() -> None:
    """Raise the soft limit of open files to the hard one, where there are such limits.

    A link takes about eight descriptors, and the usual soft limit of 1024 ends at a hundred
    neighbors. A limit that cannot be raised stays as it is.
    """
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS says "unlimited" and does not mean it
        return
