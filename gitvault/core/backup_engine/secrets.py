"""Which files look like secrets: keys, credentials, tokens. A guess that is cheap enough to make for every file.

The last part of the name decides whether more is looked at: 2 % of what hashing and deflating a file take.
"""

from __future__ import annotations

import re

# A large one is no file of settings, and looking for tokens in it would cost what saving it does.
_MOST = 4 << 10
_BEGIN = b"-----BEGIN "
_PRIVATE = b"PRIVATE KEY-----"
_TOKENS = re.compile(
    rb"(?<![0-9A-Za-z])(?:"
    rb"(?P<AWS>(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z]))"
    rb"|(?P<GitHub>gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{36})"
    rb"|(?P<GitLab>glpat-[0-9A-Za-z_-]{20})"
    rb"|(?P<Slack>xox[abeoprs]-[0-9A-Za-z-]{10})"
    rb"|(?P<Stripe>[rs]k_live_[0-9A-Za-z]{16})"
    rb")"
)
_WORDS = (b"AKIA", b"ASIA", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"b_pat_", b"glpat-", b"xox", b"k_live_")
_KEY, _STORE, _PASSWORDS = "a private key", "a store of keys or passwords", "settings that often hold passwords"
_SETTINGS, _CERTIFICATES = "settings", "certificates"
_ENDINGS = {
    **dict.fromkeys((b"id_rsa", b"id_dsa", b"id_ecdsa", b"id_ed25519", b"ppk"), _KEY),
    **dict.fromkeys((b"p12", b"pfx", b"jks", b"keystore", b"kdbx"), _STORE),
    **dict.fromkeys((b"env", b"netrc", b"pgpass", b"git-credentials"), _PASSWORDS),
    **dict.fromkeys((b"key", b"pem", b"crt"), _CERTIFICATES),
    **dict.fromkeys((b"cfg", b"conf", b"config", b"credentials", b"development", b"ini", b"json", b"local"), _SETTINGS),
    **dict.fromkeys((b"npmrc", b"production", b"properties", b"pypirc", b"sh", b"staging", b"test"), _SETTINGS),
    **dict.fromkeys((b"tfstate", b"tfvars", b"toml", b"yaml", b"yml"), _SETTINGS),
}


def secret(name: bytes, data: bytes) -> str:
    """What kind of secret a file of this name and content looks like; empty for none.

    `data`: b"" for a large file, of which only the name counts; an empty file is none.
    """
    if data.startswith(_BEGIN) and _PRIVATE in data[:64]:
        return _KEY
    # Of a name without a dot, all of it: `id_rsa`.
    kind = _ENDINGS.get(name.rpartition(b".")[2].lower(), "")
    if kind is _CERTIFICATES:
        return _KEY if _PRIVATE in data else ""
    return _in_settings(name, data) if kind is _SETTINGS else kind


def _in_settings(name: bytes, data: bytes) -> str:
    if name[:5].lower() == b".env.":
        return _PASSWORDS
    if len(data) > _MOST:
        return ""
    if _PRIVATE in data:
        return _KEY
    # Finding nothing costs the pattern 150 us in 10 KB, the words 5.
    found = _TOKENS.search(data) if any(word in data for word in _WORDS) else None
    return f"a token of {found.lastgroup}" if found else ""
