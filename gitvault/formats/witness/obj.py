"""What is in a Wavefront OBJ file, read a second time: each face as the points it has in space."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from gitvault.errors import UnsupportedMedia
from gitvault.formats.elements import DOCUMENT

_POINTS = {"v": 0, "vt": 1, "vn": 2}
_OFF = re.compile("|off|0|default")


def witness(path: Path) -> dict[str, str]:
    """Hash by object's or group's id. Raises UnsupportedMedia, OSError."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    boundary = "o" if re.search(r"^o ", text, re.MULTILINE) else "g"
    points: list[list[str]] = [[], [], []]
    # Faces may come before their vertices.
    said: list[tuple[str, str]] = [tuple((*line.split(None, 1), "", "")[:2]) for line in text.split("\n")]  # type: ignore[misc]
    for word, rest in said:
        if word in _POINTS:
            points[_POINTS[word]].append(" ".join(rest.split()))
    passed = [0, 0, 0]
    holds: dict[str, str] = {}
    inside = DOCUMENT
    faces: dict[str, list[str]] = {DOCUMENT: []}
    own: dict[str, range] = {}
    for word, rest in said:
        rest = rest.strip()
        if word in _POINTS:
            passed[_POINTS[word]] += 1
            if word == "v" and inside:
                own[inside] = range(own[inside].start, passed[0])
        elif word == boundary:
            name = f"{'object' if word == 'o' else 'group'}/{rest}"
            again = sum(key == name or key.startswith(name + "#") for key in faces)
            inside = name if not again else f"{name}#{again + 1}"
            faces[inside], own[inside] = [], range(passed[0], passed[0])
            if word == "g":
                holds.pop("g", None)
        elif word in ("usemtl", "s", "g"):
            holds[word] = "" if _OFF.fullmatch(rest) else rest
        elif word in ("f", "l", "p"):
            corners = []
            for token in rest.split():
                for which, number in enumerate(token.split("/")):
                    try:
                        at = (int(number) - 1 if int(number) > 0 else passed[which] + int(number)) if number else -1
                        corners.append(points[which][at] if number else "-")
                    except (ValueError, IndexError) as error:
                        raise UnsupportedMedia(f"{path.name}: a face has no vertex; its bytes are saved") from error
            state = [holds.get(key, "") for key in ("usemtl", "s", "g")]
            faces[inside].append("|".join([word, *state, *corners]))
    for key, range_ in own.items():
        if not faces[key]:
            faces[key] += points[0][range_.start : range_.stop]
    texts = {key: "\n".join(lines).encode("utf-8", "surrogateescape") for key, lines in faces.items()}
    return {key: sha256(text).hexdigest() for key, text in texts.items()}
