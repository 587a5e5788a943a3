"""Blender itself, for what bytes alone cannot do: bringing a file of an older Blender to the version of a newer one."""

from __future__ import annotations

from pathlib import Path

from gitvault.errors import ToolFailed, ToolMissing, ToolTimeout, UnsupportedMedia
from gitvault.formats.scene.blend import read
from gitvault.formats.scene.blend_splice import same_types

_SECONDS = 300.0
# Paths inside stay as they are written: the file is opened where it is a copy, and no other file is looked for.
_SAVE = "import bpy; bpy.ops.wm.save_as_mainfile(filepath={!r}, relative_remap=False, compress={})"


def leveled(old: Path, current: Path, folder: Path) -> Path:
    """The old file as the current one's version of Blender writes it: itself, or a new file in `folder`.

    Scripts in the file do not run. Raises UnsupportedMedia when no Blender of that version is installed; OSError.
    """
    before, now = read(old), read(current)
    if same_types(before, now):
        return old
    from gitvault.core.utils.process import run

    output = folder.resolve() / ("leveled-" + old.name)
    script = _SAVE.format(str(output), now.packing != "none")
    versions = f"{old.name} is of Blender {_shown(before.version)}, {current.name} of {_shown(now.version)}"
    if before.version > now.version:
        raise UnsupportedMedia(f"{versions}: what the newer one knows would be lost without a word")
    options = ("--background", "--factory-startup", "--disable-autoexec")
    try:
        run(["blender", *options, old.resolve(), "--python-exit-code", "3", "--python-expr", script], timeout=_SECONDS)
        is_alike = output.is_file() and same_types(read(output), now)
    except ToolMissing as error:
        raise UnsupportedMedia(f"{versions}; to bring one to the other, install Blender") from error
    except (ToolFailed, ToolTimeout) as error:
        raise UnsupportedMedia(f"{versions}; Blender could not bring one to the other: {error}") from error
    if not is_alike:
        raise UnsupportedMedia(f"{versions}, and the Blender that is installed writes another; save both with one")
    return output


def _shown(version: int) -> str:
    return f"{version // 100}.{version % 100}"
