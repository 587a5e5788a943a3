"""What looks like a secret, and what does not."""

from __future__ import annotations

import pytest

from gitvault.core.backup_engine.secrets import secret

# In two parts, so that no scanner takes this file for one.
KEY = b"-----BEGIN OPENSSH " + b"PRIVATE KEY-----\nb3Blbn\n"
AWS = b"AKIA" + b"IOSFODNN7EXAMPLE"
GITHUB = b"ghp_" + b"0" * 36


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        (b"anything.txt", KEY, "a private key"),
        (b"id_rsa", b"something", "a private key"),
        (b"ID_ED25519", b"something", "a private key"),
        (b"server.pem", b"-----BEGIN CERTIFICATE-----\nAA\n" + KEY, "a private key"),
        (b"tls.key", KEY.replace(b"OPENSSH ", b"EC "), "a private key"),
        (b"service.json", b'{"private_key": "%b"}' % KEY, "a private key"),
        (b"release.keystore", b"\xfe\xed\xfe\xed", "a store of keys or passwords"),
        (b"me.p12", b"0\x82", "a store of keys or passwords"),
        (b".env", b"A=b", "settings that often hold passwords"),
        (b"prod.env", b"A=b", "settings that often hold passwords"),
        (b".env.production", b"A=b", "settings that often hold passwords"),
        (b".netrc", b"machine x", "settings that often hold passwords"),
        (b"credentials", b"[default]\naws_access_key_id = " + AWS, "a token of AWS"),
        (b"ci.yml", b"token: " + GITHUB, "a token of GitHub"),
        (b"ci.yml", b"token: glpat" + b"-abcdefghij0123456789", "a token of GitLab"),
        (b"bot.ini", b"xox" + b"b-123456789012", "a token of Slack"),
        (b"shop.toml", b"sk_live" + b"_abcdefghij012345", "a token of Stripe"),
    ],
)
def test_secrets_are_recognized(name: bytes, data: bytes, kind: str) -> None:
    assert secret(name, data) == kind


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"id_rsa.pub", b"ssh-rsa AAAA"),
        (b"server.pem", b"-----BEGIN CERTIFICATE-----\nAA\n"),
        (b"server.crt", b"-----BEGIN CERTIFICATE-----\nAA\n"),
        (b"tls.key", b"not one of ours"),
        (b".env.example", b"PASSWORD="),
        (b".envrc", b"use nix"),
        (b"environment", b"A=b"),
        (b"main.py", b"token = '%b'" % GITHUB),
        (b"big.json", b" " * 20_000 + GITHUB),
        (b"word.ini", b"BLAKIA" + b"IOSFODNN7EXAMPLE"),
        (b"short.ini", b"AKIA1234 ghp_x sk_live_ xoxo"),
        (b"readme.txt", b"-----BEGIN PGP PUBLIC KEY BLOCK-----"),
        (b"", b""),
        (b"a.json", b""),
    ],
)
def test_what_is_none_is_left_in_peace(name: bytes, data: bytes) -> None:
    assert secret(name, data) == ""
