"""What a file has besides its bytes: times, permissions, owner, extended attributes, holes.

The door to the parts of the platform that differ. Where a platform or file system has no such thing,
reading gives nothing and writing says so in a sentence.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Mapping

# Set by the system's own policy wherever a file lies; restoring it would fight that policy.
_NOT_OURS = frozenset({"security.selinux", "security.ima", "security.evm"})
_UNSUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENODATA)


def read_xattrs(fd: int) -> dict[str, bytes]:
    """Extended attributes (ACLs are among them on Linux) of an open file by name; empty where there are none."""
    if sys.platform != "linux":
        return {}
    try:
        return {name: os.getxattr(fd, name) for name in os.listxattr(fd) if name not in _NOT_OURS}
    except OSError as error:
        if error.errno in _UNSUPPORTED or isinstance(error, PermissionError | FileNotFoundError):
            return {}
        raise


def not_kept() -> str | None:
    """What of a file this system has and gitvault cannot reach, as a sentence; None on Linux, where it reaches all."""
    if sys.platform == "darwin":
        return "extended attributes, ACLs and resource forks are not saved on macOS"
    if sys.platform == "win32":
        return "owners, ACLs and alternate data streams are not saved on Windows"
    return None


def write_xattrs(target: str | int, values: Mapping[str, bytes]) -> Iterator[str]:
    """Set attributes on a path (not following a symlink) or descriptor; a sentence for each that failed."""
    for name, value in values.items():
        if sys.platform != "linux":
            yield f"extended attribute {name} cannot be set on this system"
            continue
        try:
            os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
        except OSError as error:
            yield f"extended attribute {name} not set: {error.strerror}"


def is_privilege(xattr: str) -> bool:
    """Whether an extended attribute gives a program rights, as setuid does, or is root's own."""
    return xattr.startswith(("security.", "trusted."))


def is_sparse(st: os.stat_result) -> bool:
    """Whether the file occupies less than its size says."""
    blocks: int | None = getattr(st, "st_blocks", None)
    return blocks is not None and blocks * 512 < st.st_size


def may_set_owner() -> bool:
    """Whether this process can give files to others."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def made_by_this_user(path: str | os.PathLike[str]) -> bool:
    """Whether the folder belongs to whoever runs this process; true where there are no owners."""
    return not hasattr(os, "geteuid") or os.stat(path).st_uid == os.geteuid()
