"""The error tree. Catch GitVaultError to catch everything gitvault raises on purpose.

    GitVaultError                  128  anything that stops a command
      ConfigError                  128  a setting with a wrong name or value
      NotFoundError                128  no such project, snapshot, path or object
        VaultNotFound               10  the folder is no vault
      AmbiguousError               128  a name that fits several things
      ExistsError                  128  the target is there and may not be overwritten
      LockedError                   11  another process is writing to the vault
      StorageFullError              12  no space left
      CorruptionError               20  stored bytes are not what they should be
        ChecksumMismatch            20
        ContentMissing              20  also a NotFoundError
        UnsupportedFormatVersion    20
      UnsupportedMedia               4  a kind of file, or a file, with which this cannot be done
      ToolError                    128  another program
        ToolMissing                128
        ToolFailed                 128
        ToolStopped                128
        ToolTimeout                128
      RemoteError                  128  somewhere else, where a remote is
        RemoteUnreachable           13  no answer from there; can be tried again
        RemoteRefused               14  no rights, no such bucket or folder, wrong credentials, another host key
          RemoteSealed              14  encrypted, and there is no key here that opens it
        RemoteFull                  12  also a StorageFullError

Each message is one line: the thing, what was expected or found, and the way out.
"""

from __future__ import annotations

import re


class GitVaultError(Exception):
    """Base of all errors; `exit_code` is what the command line ends with."""

    exit_code = 128

    def __reduce__(self) -> tuple[object, ...]:
        """As it is, from one process to another: kinds are made of other arguments than they keep."""
        return _as_it_is, (type(self), self.args), self.__dict__


def _as_it_is(kind: type[GitVaultError], arguments: tuple[object, ...]) -> GitVaultError:
    return kind.__new__(kind, *arguments)


class ConfigError(GitVaultError):
    """A setting has an unknown name or a value it cannot have."""


class NotFoundError(GitVaultError):
    """A project, snapshot, path or object that does not exist."""


class VaultNotFound(NotFoundError):
    """The folder is not a vault."""

    exit_code = 10


class AmbiguousError(GitVaultError):
    """A name that fits several things; the message lists them."""


class ExistsError(GitVaultError):
    """Something is in the way and overwriting was not asked for."""


class LockedError(GitVaultError):
    """Another process holds the vault; the message says which."""

    exit_code = 11


class StorageFullError(GitVaultError):
    """The disk or the quota is full; nothing that was saved before is affected."""

    exit_code = 12


class CorruptionError(GitVaultError):
    """Stored bytes are damaged or missing."""

    exit_code = 20


class ChecksumMismatch(CorruptionError):
    """An object's bytes do not have the hash they are stored under."""

    def __init__(self, what: str, expected: str, actual: str) -> None:
        super().__init__(f"{what}: expected hash {expected}, found {actual}; run git-vault verify --data")
        self.expected = expected
        self.actual = actual


class ContentMissing(CorruptionError, NotFoundError):
    """What was saved is gone: an object or a chunk that something in the vault refers to."""


class UnsupportedFormatVersion(CorruptionError):
    """Written by a newer gitvault than this one."""


class UnsupportedMedia(GitVaultError):
    """What was asked for cannot be done with this kind of file, or with this file; its bytes are saved all the same."""

    exit_code = 4


class ToolError(GitVaultError):
    """Another program is missing or failed."""


class ToolMissing(ToolError):
    """A program that is needed is not installed."""


def without_passwords(text: str) -> str:
    """A text without the passwords of URLs in it."""
    return re.sub(r"(://[^/@:\s]*):[^/@\s]*@", r"\1:***@", text)


class ToolFailed(ToolError):
    """A program ended with an error; `reason` is the line of its words that says why."""

    def __init__(self, command: str, code: int, stderr: str) -> None:
        # What a user named may hold one: `rest:https://USER:PASSWORD@HOST`.
        command, stderr = without_passwords(command), without_passwords(stderr)
        lines = stderr.strip().splitlines()
        # git and restic say what it is, and then, in more lines, what it may be.
        reasons = [line for line in lines if line.lower().startswith(("fatal:", "error:", "ssh:"))]
        self.reason = [*reasons, *lines[-1:], "no message"][0]
        super().__init__(f"{command} failed with code {code}: {self.reason}")
        self.command = command
        self.code = code
        self.stderr = stderr


class ToolStopped(ToolError):
    """A program was stopped because something more urgent waits; nothing it did counts."""


class ToolTimeout(ToolError):
    """A program gave no answer in the time it had, and was ended."""


class RemoteError(GitVaultError):
    """A remote could not do what was asked of it."""


class RemoteUnreachable(RemoteError):
    """No answer, or one that says to come again later; what was not sent yet waits."""

    exit_code = 13


class RemoteRefused(RemoteError):
    """The remote answered and said no: trying again changes nothing."""

    exit_code = 14


class RemoteSealed(RemoteRefused):
    """What is on the remote is sealed to other keys than those at hand."""


class RemoteFull(RemoteError, StorageFullError):
    """The remote has no room left, or its quota is reached."""

    exit_code = 12
