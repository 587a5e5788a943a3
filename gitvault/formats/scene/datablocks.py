"""What is in a Blender file by name, with a hash that says whether it is the same as in another version of the file.

The hash is over values by their names, zeros left out, so that what a newer Blender added and nobody used changes
nothing. A pointer counts as what it leads to: a datablock's name, or how many blocks of its own come before. Left out
is what Blender works out anew whenever it reads a file, what only a session knows, and what fills gaps.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gitvault.formats import Element
from gitvault.formats.scene.blend import Blend, Block, Datablock, Field, read

KINDS = {
    b"AC": "action", b"AR": "armature", b"BR": "brush", b"CA": "camera", b"CF": "cache file", b"CU": "curve",
    b"CV": "curves", b"GD": "grease pencil", b"GP": "grease pencil", b"GR": "collection", b"HA": "curves",
    b"IM": "image", b"IP": "animation curves", b"KE": "shape key", b"LA": "light", b"LI": "library",
    b"LP": "light probe", b"LS": "line style", b"LT": "lattice", b"MA": "material", b"MB": "metaball",
    b"MC": "movie clip", b"ME": "mesh", b"MS": "mask", b"NT": "node group", b"OB": "object", b"PA": "particles",
    b"PC": "paint curve", b"PL": "palette", b"PT": "point cloud", b"SC": "scene", b"SI": "simulation",
    b"SK": "speaker", b"SN": "screen", b"SO": "sound", b"SR": "screen", b"TE": "texture", b"TX": "text",
    b"VF": "font", b"VO": "volume", b"WM": "window manager", b"WO": "world", b"WS": "workspace",
}  # fmt: skip
INTERFACE = frozenset({"screen", "window manager", "workspace"})
"""Kinds that are windows, not work: saving a file is enough to change them."""

_GAPS = re.compile(rb"(^|\.)(_*pad(ding)?_?\d*|runtime|typemap|session_uu?id|execution_time)(\.|\[|$)")
_SESSION = {
    b"ID": b"next prev newid us tag recalc recalc_up_to_undo_push recalc_after_undo_push session_uuid session_uid "
    b"icon_id orig_id py_instance deep_hash",
    # Where an object is now follows from its parents, and what is selected is no change.
    b"Object": b"obmat imat constinv imat_ren base_flag base_local_view_bits mode restore_mode recalc lay flag "
    b"preview gpulamp bb path customdata_mask lastDataMask ctime sculpt derivedDeform derivedFinal select_color "
    b"lodlevels currentlod mpath lightprobe_cache customdata_mask_mesh dirty body bsoft",
    # Members are elements themselves; whose they are is told as the element's parent.
    b"Collection": b"gobject children exporters parents object_cache object_cache_instanced collection_objects preview",
    b"Group": b"gobject preview",
    b"Scene": b"base basact obedit depsgraph depsgraph_hash theDag dagisvalid dagflags lay_updated customdata_mask "
    b"customdata_mask_modal preview fps_info sound_scene playback_handle sound_scrub_handle speaker_handles "
    b"cursor lay layact",
    b"ViewLayer": b"object_bases basact active_collection object_bases_array object_bases_hash stats drawdata "
    b"layer_collections",
    b"Mesh": b"bb edit_mesh edit_btmesh act_face mselect totselect texcomesh",
    b"Material": b"gpumaterial preview texpaintslot",
    b"World": b"gpumaterial preview drawdata",
    b"Lamp": b"preview",
    b"Tex": b"preview",
    b"Image": b"preview gputexture cache anims rr renders ok gpuframenr gpuflag gpu_pass gpu_layer gpu_slice lastused "
    b"lastupdate tpageflag bindcode repbind totbind lastframe",
    b"Brush": b"preview toggle_brush",
    b"bNodeTree": b"preview progress execdata init is_updating cur_index previews chosen_mode "
    b"active_viewer_key edit_quality gpencil adapt duplilock",
    b"bNode": b"prvr preview lasty updatex locx_offs need_exec threaded_node exec block highlight changed_flag",
    b"Library": b"parent idblock filedata",
    b"IDProperty": b"totallen",
    b"CustomDataLayer": b"uid offset sharing_info",
    b"AttributeArray": b"sharing_info",
    b"CustomData": b"pool maxlayer totsize external",
    b"ListBase": b"last",
    b"bPoseChannel": b"chan_mat pose_mat pose_head pose_tail",
    b"FCurve": b"curval",
    b"ChannelDriver": b"curval",
    b"DriverVar": b"curval",
    b"CurveProfile": b"changed_timestamp",
    b"CurveMapping": b"changed_timestamp",
}
_SKIPPED = {owner: frozenset(names.split()) for owner, names in _SESSION.items()}
# From so many on, an array without pointers counts as its bytes: a loop over a million would take seconds.
_LARGE = 17


class Contents:
    """The datablocks of one file, ready to be hashed."""

    def __init__(self, blend: Blend) -> None:
        self.blend = blend
        self.layout = blend.layout
        self._plans: dict[int, tuple[Field, ...]] = {}
        self._order = "little" if blend.order == "<" else "big"
        self._owned = self._keys()
        self.names = self._identifiers()

    def _keys(self) -> dict[int, Datablock]:
        """Shape keys by address; one belongs to its mesh as a layer would, and is no element of its own."""
        blend, owned = self.blend, {}
        for thing in blend.datablocks:
            key = blend.by_address.get(blend.address(thing.block, b"key"))
            if key is not None and key.code == b"KE" and thing.block.code != b"ID":
                owned[key.block.address] = key
        return owned

    def _identifiers(self) -> dict[int, str]:
        """The element's id of each datablock that is one, by address."""
        found: dict[int, str] = {}
        taken: set[str] = set()
        for thing in self.blend.datablocks:
            if thing.block.address in self._owned:
                continue
            name = identifier(thing)
            if name not in taken:
                taken.add(name)
                found[thing.block.address] = name
        return found

    def key_of(self, thing: Datablock) -> Datablock | None:
        """The shape keys of a mesh, curve or lattice."""
        return self._owned.get(self.blend.address(thing.block, b"key"))

    def hash(self, thing: Datablock) -> str:
        """SHA-256 (hex) of what it is."""
        digest = hashlib.sha256()
        key = self.key_of(thing)
        if key is not None:
            digest.update(self.hash(key).encode())
        own = {block.address: block for block in thing.data}
        place: dict[int, int] = {thing.block.address: 0}
        waiting = deque([(thing.block, thing.block.code)])
        while waiting:
            block, kind = waiting.popleft()
            for part in self._parts(block, kind, own, place, waiting):
                digest.update(part)
        return digest.hexdigest()

    def _parts(
        self,
        block: Block,
        kind: bytes,
        own: dict[int, Block],
        place: dict[int, int],
        waiting: deque[tuple[Block, bytes]],
    ) -> Iterator[bytes]:
        blend = self.blend

        def target(address: int, of: bytes) -> bytes:
            if address == 0:
                return b""
            if (index := place.get(address)) is not None:
                return b"@%d" % index
            # A node tree may be a datablock, or inside one. Addresses of a datablock's own blocks can be others', too.
            if (inner := own.get(address)) and not (address in blend.by_address and self._is_id(of)):
                place[address] = len(place)
                waiting.append((inner, b"pointers" if of == b"pointers" else b"DATA"))
                return b"@%d" % place[address]
            other = blend.by_address.get(address)
            if other is None or address in self._owned:
                return b""
            return b"&" + identifier(other).encode("utf-8", "surrogateescape")

        if kind == b"pointers" or (block.struct == 0 and self._holds_pointers(block, own)):
            yield b"\0*%d" % block.size
            for address in self._addresses(block.start, block.size):
                yield target(address, b"") + b"\0"
            return
        if block.struct == 0 or block.struct >= len(self.layout.structs):
            yield b"\0=%d\0" % block.size
            yield blend.content[block.start : block.start + block.size]
            return
        plan, size = self._plan(block.struct), self.layout.size(block.struct)
        yield b"\0%s %d\0" % (self.layout.structs[block.struct], block.items)
        count = min(max(block.items, 0), block.size // size) if size else 0
        if count >= _LARGE and not any(field.depth for field in plan):
            yield b"".join(field.path + b"\0" for field in plan)
            yield blend.content[block.start : block.start + block.size]
            return
        content, order, pointer = blend.content, self._order, blend.pointer
        for start in range(block.start, block.start + count * size, size or 1):
            parts: list[bytes] = []
            for field in plan:
                at = start + field.offset
                value = content[at : at + field.size]
                if not any(value):
                    continue
                if field.depth == 0:
                    parts += (field.path, b"\0", value)
                    continue
                of = b"pointers" if field.depth > 1 else field.type
                if field.size == pointer:
                    found = target(int.from_bytes(value, order), of)  # type: ignore[arg-type]
                else:
                    found = b"\0".join(target(address, of) for address in self._addresses(at, field.size))
                if found.strip(b"\0"):
                    parts += (field.path, b"\0", found)
            yield b"\1".join(parts) + b"\2"

    def _is_id(self, name: bytes) -> bool:
        """Whether a pointer to this type leads to a datablock: the struct begins with one."""
        if name == b"ID":
            return True
        number = self.layout.number(name)
        return number is not None and bool(self.layout.field(number, b"id.name"))

    def _addresses(self, start: int, size: int) -> Iterator[int]:
        step, content, order = self.blend.pointer, self.blend.content, self._order
        for at in range(start, start + size - size % step, step):
            yield int.from_bytes(content[at : at + step], order)  # type: ignore[arg-type]

    def _holds_pointers(self, block: Block, own: dict[int, Block]) -> bool:
        """Whether a block of no known type is an array of pointers: each is none or leads somewhere."""
        if block.size % self.blend.pointer or not block.size:
            return False
        seen = False
        for address in self._addresses(block.start, block.size):
            if address:
                if address not in own and address not in self.blend.by_address:
                    return False
                seen = True
        return seen

    def _plan(self, number: int) -> tuple[Field, ...]:
        """The values of a struct that say what it is."""
        if number not in self._plans:
            self._plans[number] = tuple(
                field
                for field in self.layout.fields(number)
                if not _GAPS.search(field.path) and field.path != b"id.name" and not self._is_session(number, field)
            )
        return self._plans[number]

    def _is_session(self, number: int, field: Field) -> bool:
        if field.name in _SKIPPED.get(field.owner, ()):
            return True
        # A list is two pointers with a name: what the struct calls it counts.
        first = field.path.partition(b".")[0]
        return first in _SKIPPED.get(self.layout.structs[number], ())


def identifier(thing: Datablock) -> str:
    """`mesh/Cube`, `object/Lamp @//props.blend`."""
    kind = KINDS.get(thing.code, thing.code.decode("latin-1"))
    return f"{kind}/{thing.name}" + (f" @{thing.library}" if thing.library is not None else "")


class Link(NamedTuple):
    """A member's entry in the list of the collection or scene it is in."""

    member: int
    """Address of the object or collection."""
    holder: Datablock
    head: Block
    """The block with the list: the holder's first, or that of the collection a scene has for itself."""
    list: bytes
    """`gobject`, `children`, `base` (before 2.80)."""
    entry: Block
    field: bytes
    """What of the entry is the pointer to the member."""


_LISTS = ((b"gobject", b"ob"), (b"children", b"collection"), (b"base", b"object"))


def head_of(blend: Blend, holder: Datablock) -> Block:
    """The block that has the lists of a collection's or scene's members."""
    master = blend.address(holder.block, b"master_collection")
    return next((block for block in holder.data if block.address == master), holder.block)


def links(blend: Blend) -> list[Link]:
    """Who is in which collection or scene."""
    found = []
    for thing in blend.datablocks:
        if thing.block.code not in (b"GR", b"SC"):
            continue
        own = {block.address: block for block in thing.data}
        head = head_of(blend, thing)
        for path, field in _LISTS:
            entry = own.get(blend.address(head, path + b".first"))
            # A list that has lost its end goes round.
            for _ in range(len(own)):
                if entry is None:
                    break
                found.append(Link(blend.address(entry, field), thing, head, path, entry, field))
                entry = own.get(blend.address(entry, b"next"))
    return found


def elements(path: Path) -> list[Element]:
    """All datablocks; an object's parent is the collection or scene it is in. Raises UnsupportedMedia, OSError."""
    contents = Contents(read(path))
    inside = {link.member: link.holder.block.address for link in reversed(links(contents.blend))}
    by_address = contents.blend.by_address
    found = []
    for address, name in contents.names.items():
        thing = by_address[address]
        parent = contents.names.get(inside.get(address, 0))
        kind = KINDS.get(thing.code, thing.code.decode("latin-1"))
        found.append(Element(name, thing.name, kind, parent, contents.hash(thing)))
    # Those that hold others come first.
    return sorted(found, key=lambda element: element.kind not in ("scene", "collection"))
