"""Trees, commits and trailers as bytes: what goes in comes out, what git would not write is refused."""

from __future__ import annotations

import hashlib

import pytest

from gitvault.core.models import ObjectId
from gitvault.core.versioning.objects import (
    EMPTY_BLOB,
    EMPTY_TREE,
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_SUBMODULE,
    MODE_SYMLINK,
    MODE_TREE,
    Commit,
    Signature,
    TreeEntry,
    decode_commit,
    decode_tree,
    encode_commit,
    encode_tree,
    format_message,
    format_trailers,
    object_id,
    parse_message,
    tagged,
)
from gitvault.errors import CorruptionError, GitVaultError

A = ObjectId(bytes(range(20)))
B = ObjectId(bytes(range(20, 40)))
WHO = Signature("Ada", "ada@example.invalid", 1_700_000_000, 90)


def test_ids_are_gits_own() -> None:
    assert EMPTY_TREE.hex() == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    assert EMPTY_BLOB.hex() == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert object_id(b"blob", memoryview(b"hi\n")) == hashlib.sha1(b"blob 3\0hi\n").digest()


def test_tree_is_sorted_as_if_folders_ended_in_a_slash() -> None:
    entries: list[TreeEntry] = [
        (b"a0", MODE_FILE, A),
        (b"a", MODE_TREE, B),
        (b"a.c", MODE_EXECUTABLE, A),
        (b"l", MODE_SYMLINK, A),
        (b"s", MODE_SUBMODULE, B),
    ]
    data = encode_tree(reversed(entries))
    assert [name for name, _, _ in decode_tree(data)] == [b"a.c", b"a", b"a0", b"l", b"s"]
    assert sorted(decode_tree(data)) == sorted(entries)
    assert data.startswith(b"100755 a.c\0" + A + b"40000 a\0" + B)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b"])
def test_tree_refuses_names_that_no_tree_holds(name: bytes) -> None:
    with pytest.raises(GitVaultError, match="no name for a tree entry"):
        encode_tree([(name, MODE_FILE, A)])


def test_tree_refuses_unknown_modes_short_ids_and_double_names() -> None:
    with pytest.raises(GitVaultError, match="mode 100666"):
        encode_tree([(b"a", 0o100666, A)])
    with pytest.raises(GitVaultError, match="git knows"):
        encode_tree([(b"a", MODE_FILE, ObjectId(b"short"))])
    with pytest.raises(GitVaultError, match="same name twice"):
        encode_tree([(b"a", MODE_FILE, A), (b"a", MODE_TREE, B)])


@pytest.mark.parametrize(
    "data",
    [
        b"100644 a\0" + A[:-1],
        b"100644 a",
        b"100644a\0" + A,
        b"0100644 a\0" + A,
        b"100600 a\0" + A,
        b"100644 \0" + A,
        b"100644 ..\0" + A,
        b"40000 .\0" + A,
        b"100644 a/b\0" + A,
        b"100644 b\0" + A + b"100644 a\0" + A,
        b"100644 a\0" + A + b"100644 a\0" + A,
        b"40000 a\0" + A + b"100644 a.c\0" + A,
    ],
)
def test_malformed_tree_is_corruption(data: bytes) -> None:
    with pytest.raises(CorruptionError, match="malformed tree"):
        decode_tree(data)


def test_tree_with_a_file_and_a_folder_of_one_name_is_corruption() -> None:
    with pytest.raises(CorruptionError, match="same name twice"):
        decode_tree(b"100644 a\0" + A + b"40000 a\0" + A)


def test_commit_comes_back_byte_for_byte() -> None:
    commit = Commit(
        A, (B, A), WHO, Signature("Bob B", "", 5, -330), "Subject\n\nBody é\n", (("gpgsig", "one\ntwo\n\nx"),)
    )
    data = encode_commit(commit)
    assert decode_commit(data) == commit
    assert encode_commit(decode_commit(data)) == data
    assert b"author Ada <ada@example.invalid> 1700000000 +0130\ncommitter Bob B <> 5 -0530\n" in data
    assert b"gpgsig one\n two\n \n x\n\nSubject" in data


def test_commit_text_that_git_forbids_is_replaced() -> None:
    who = Signature(" <evil>\n\0 name ", "a>b\n<c", -5, 100_000)
    commit = decode_commit(encode_commit(Commit(A, (), who, Signature("", "", 2**70), "a\0b\ud800\udcff")))
    assert commit.author == Signature("evil name", "abc", 0, 99 * 60 + 59)
    assert commit.committer == Signature("unknown", "", 2**53)
    assert "\0" not in commit.message
    assert commit.message.startswith("a\u2400b")


def test_message_keeps_bytes_that_are_not_utf8() -> None:
    commit = Commit(A, (), WHO, WHO, "caf\udce9")
    assert encode_commit(commit).endswith(b"\n\ncaf\xe9")
    assert decode_commit(encode_commit(commit)) == commit


GOOD = encode_commit(Commit(A, (B,), WHO, WHO, "m"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[5:],
        GOOD.replace(b"tree ", b"parent ", 1),
        GOOD.replace(b"parent ", b"tree "),
        GOOD.replace(A.hex().encode(), b"xyz"),
        GOOD.replace(b"author", b"writer"),
        GOOD.replace(b"committer", b"author"),
        GOOD.replace(b"<ada", b"ada"),
        GOOD.replace(b"+0130", b"0130"),
        GOOD.replace(b"1700000000", b"-1"),
        GOOD.replace(b"committer Ada <ada@example.invalid> 1700000000 +0130\n", b""),
        GOOD.replace(b"\n\nm", b""),
        GOOD.replace(b"\n\nm", b"\nkey\n\nm"),
    ],
)
def test_malformed_commit_is_corruption(data: bytes) -> None:
    with pytest.raises(CorruptionError, match="malformed commit"):
        decode_commit(data)


def test_trailers_come_back_from_a_message() -> None:
    trailers = [("Vault-Host", "box"), ("Vault-Tag", ""), ("Vault-Tag", "a: b"), ("X", "two\r\n  lines")]
    message = format_message("Subject\n\nSigned-off-by: someone\n\n", trailers)
    body, parsed = parse_message(message)
    assert body == "Subject\n\nSigned-off-by: someone"
    assert parsed == [*trailers[:3], ("X", "two lines")]


def test_message_without_trailers_has_none() -> None:
    assert format_message("Just this", []) == "Just this\n"
    assert parse_message("Just this\n") == ("Just this", [])
    assert parse_message("Key: value\n") == ("Key: value", [])
    assert parse_message("") == ("", [])


@pytest.mark.parametrize("key", ["", "a b", "ä", "-x", "a:b", "a\n"])
def test_trailer_key_must_be_plain(key: str) -> None:
    with pytest.raises(GitVaultError, match="no trailer key"):
        format_trailers([(key, "x")])


def test_what_a_tag_names() -> None:
    oid = ObjectId(b"\x12" * 20)
    assert tagged(oid, b"object " + b"ab" * 20 + b"\ntype commit\ntag x\n") == ObjectId(b"\xab" * 20)
    for wrong in (b"", b"object abc\n", b"tree " + b"ab" * 20 + b"\n", b"object " + b"ab" * 20):
        with pytest.raises(CorruptionError, match="a tag that names no object"):
            tagged(oid, wrong)
