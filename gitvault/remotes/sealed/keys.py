"""Who may read: recipients as text, identities as files, in the forms of the age program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gitvault.core.utils.files import read_plain
from gitvault.errors import ConfigError, CorruptionError, ToolMissing
from gitvault.remotes.sealed.age import Identity, Recipient, key_bytes

_LARGEST = 1 << 20
_PRIVATE = b"-----BEGIN"
_SECRET = "AGE-SECRET-KEY-1"


def library() -> None:
    """Raises ToolMissing where what seals and opens is not installed."""
    try:
        import pyrage  # noqa: F401
    except ImportError as error:
        raise ToolMissing("pyrage: not installed; it seals remotes: pip install 'gitvault[remote]'") from error


def recipients(texts: Sequence[str]) -> list[Recipient]:
    """Public keys: `age1...`, `ssh-ed25519 ...` or `ssh-rsa ...`. Raises ConfigError, ToolMissing."""
    library()
    return [_recipient(text.strip()) for text in texts]


def _recipient(text: str) -> Recipient:
    import pyrage

    try:
        if text.startswith("ssh-"):
            return Recipient(pyrage.ssh.Recipient.from_str(text))
        return Recipient(pyrage.x25519.Recipient.from_str(text), key_bytes(text))
    except pyrage.RecipientError as error:
        if text.startswith(_SECRET):
            # It would be written into the settings.
            raise ConfigError("--encrypt: that is a secret key; give the public one, age-keygen -y prints it") from None
        raise ConfigError(
            f"--encrypt {text[:100]}: no public key ({error}); expected age1..., ssh-ed25519 ... or ssh-rsa ..."
        ) from None


def identities(path: Path) -> list[Identity]:
    """The secret keys in a file that age-keygen or ssh-keygen wrote; several of the former, a line each.

    Raises ConfigError, ToolMissing.
    """
    library()
    import pyrage

    try:
        content = read_plain(path, _LARGEST)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name the file with the secret key") from error
    except CorruptionError:
        raise ConfigError(f"{path}: too long for a secret key; is it what age-keygen wrote?") from None
    try:
        if content.startswith(_PRIVATE) and b"AGE ENCRYPTED" not in content[:80]:
            return [Identity(pyrage.ssh.Identity.from_buffer(content))]
        lines = (line.strip() for line in content.decode("utf-8").splitlines())
        found = [
            Identity(pyrage.x25519.Identity.from_str(line), key_bytes(line))
            for line in lines
            if line and not line.startswith("#")
        ]
    except (pyrage.IdentityError, UnicodeDecodeError) as error:
        # What stands in the file is nobody's business: age's own errors do not quote it.
        way = "take its passphrase off a copy" if "decrypted first" in str(error) else "is it what age-keygen wrote?"
        raise ConfigError(f"{path}: no secret key that can be used ({_sentence(error)}); {way}") from None
    if not found:
        raise ConfigError(f"{path}: holds no secret key; is it what age-keygen wrote?")
    return found


def _sentence(error: Exception) -> str:
    return "not text" if isinstance(error, UnicodeDecodeError) else str(error)
