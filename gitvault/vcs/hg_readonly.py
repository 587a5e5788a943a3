"""An extension that hg loads in its own Python: to write into a repository fails, as on a read-only disk.

hg refreshes caches and the dirstate on the way even when it is only asked; without these it is as right, and slower.
"""

from __future__ import annotations

import errno
import os
from typing import Any, NoReturn


def uisetup(ui: Any) -> None:
    """Called by hg before it opens a repository."""
    from mercurial import util, vfs

    opened = vfs.vfs.__call__

    def read_only(self: Any, path: bytes, mode: bytes = b"r", *arguments: Any, **options: Any) -> Any:
        if mode not in (b"r", b"rb"):
            _refuse(path)
        return opened(self, path, mode, *arguments, **options)

    vfs.vfs.__call__ = vfs.vfs.open = read_only
    for name in ("makedir", "makedirs", "makelock", "mkdir", "mkstemp", "rename", "rmdir", "rmtree", "setflags"):
        setattr(vfs.abstractvfs, name, _refuse)
    for name in ("symlink", "tryunlink", "unlink", "unlinkpath", "utime", "chmod", "copyfile"):
        setattr(vfs.abstractvfs, name, _refuse)
    vfs.vfs.symlink = vfs.vfs.chmod = _refuse
    # Both find out by making files.
    util.checkexec = util.checklink = lambda path: os.name != "nt"


def _refuse(*arguments: Any, **options: Any) -> NoReturn:
    # hg 7 ends where the error of a lock names no file; what it is called stands last.
    named = [argument for argument in arguments if isinstance(argument, bytes)]
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), [b"", *named][-1])
