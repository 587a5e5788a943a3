"""The order of lease, sweep and commit, checked in every interleaving.

A model of what writers and sweepers do to shared files, one step per file operation. Every agent may stand still
between any two steps for as long as it takes (a suspended laptop), die at any step, and have its lease taken away at
any moment, rightly or wrongly. The invariant: no ref, acknowledged or not, ever leads to a pack that was deleted.

There is a pack P that no ref needs and that holds what both writers are about to save, so that they may find it and
rely on it while the sweeper gets rid of it. A writer that does not find it writes a pack, its own or P anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import pytest

# Hundreds of thousands of steps of the model, and not a line of the product.
pytestmark = pytest.mark.no_cover

P = 0
NOBODY = -1
DEAD = "dead"
DONE = "done"


class Protocol(NamedTuple):
    """What is done; a mutant leaves something out."""

    lease: bool = True
    """False: locks that keep nobody out, as with another program that moves refs."""
    fence: bool = True
    """Who takes the lease removes all locks of refs before it reads the refs."""
    check_before_move: bool = True
    """With the ref's lock taken, the writer looks whether the lease is still its own."""
    check_inside_lock: bool = True
    """Not before it takes the ref's lock."""
    check_before_delete: bool = True
    """The sweeper looks once more after it read the refs again."""
    recheck: bool = True
    """The writer looks whether the packs it relies on are still in place, last thing before it moves the ref."""
    reread: bool = True
    """The sweeper reads the refs again when the packs are in the trash."""
    grace: bool = False
    """The sweeper waits until writers that looked before the packs went to the trash have moved their refs."""
    through_trash: bool = True
    """The sweeper deletes from the trash, not from where writers look."""
    own_trash: bool = True
    """Each sweeper moves packs to names of its own, those that another left in the trash too."""


class Writer(NamedTuple):
    step: str = "take"
    relies: int = NOBODY
    acknowledged: bool = False


class Sweeper(NamedTuple):
    step: str = "take"
    condemned: frozenset[int] = frozenset()
    waits_for: frozenset[int] = frozenset()


class World(NamedTuple):
    writers: tuple[Writer, ...]
    sweepers: tuple[Sweeper, ...]
    lease: int
    refs: tuple[int, ...]
    """Of each writer's project: the pack it leads to."""
    ref_locks: frozenset[int]
    store: frozenset[int]
    """Packs where writers look."""
    trash: frozenset[tuple[int, int]]
    """Whose, and which pack."""


def begin(writers: int, sweepers: int) -> World:
    return World(
        (Writer(),) * writers,
        (Sweeper(),) * sweepers,
        NOBODY,
        (NOBODY,) * writers,
        frozenset(),
        frozenset({P}),
        frozenset(),
    )


def with_writer(world: World, number: int, writer: Writer) -> World:
    return world._replace(writers=(*world.writers[:number], writer, *world.writers[number + 1 :]))


def with_sweeper(world: World, number: int, sweeper: Sweeper) -> World:
    return world._replace(sweepers=(*world.sweepers[:number], sweeper, *world.sweepers[number + 1 :]))


def released(world: World, agent: int) -> World:
    return world._replace(lease=NOBODY) if world.lease == agent else world


def writer_steps(world: World, number: int, order: Protocol) -> Iterator[World]:
    """What the writer's next step may lead to."""
    me = world.writers[number]
    given_up = with_writer(released(world, number), number, Writer(DONE, NOBODY, me.acknowledged))
    locked = number in world.ref_locks

    def then(step: str, changed: World = world, **changes: object) -> World:
        return with_writer(changed, number, me._replace(step=step, **changes))  # type: ignore[arg-type]

    match me.step:
        case "take":
            # Free, or another's whose counter seems to stand still.
            yield then("fence", world._replace(lease=number) if order.lease else world)
        case "fence":
            yield then("find", world._replace(ref_locks=frozenset()) if order.fence and order.lease else world)
        case "find":
            if P in world.store:
                yield then("recheck", relies=P)
            else:
                for pack in (P, number + 1):
                    yield then("recheck", world._replace(store=world.store | {pack}), relies=pack)
        case "recheck":
            there = me.relies in world.store
            after = "lock" if order.check_inside_lock else "check"
            yield then(after) if there or not order.recheck else given_up
        case "lock":
            after = "check" if order.check_inside_lock else "move"
            yield then(after, world._replace(ref_locks=world.ref_locks | {number}))
        case "check":
            held = not order.lease or not order.check_before_move or world.lease == number
            after = "move" if order.check_inside_lock else "lock"
            yield then(after) if held else given_up._replace(ref_locks=world.ref_locks - {number})
        case "move":
            # The rename of a ref's lock that somebody removed finds nothing.
            refs = (*world.refs[:number], me.relies, *world.refs[number + 1 :])
            moved = world._replace(refs=refs, ref_locks=world.ref_locks - {number})
            yield then("acknowledge", moved) if locked else given_up
        case "acknowledge":
            yield then("release", acknowledged=True)
        case "release":
            yield given_up


def sweeper_steps(world: World, number: int, order: Protocol) -> Iterator[World]:
    """What the sweeper's next step may lead to."""
    me = world.sweepers[number]
    agent = len(world.writers) + number
    given_up = with_sweeper(released(world, agent), number, Sweeper(DONE))
    whose = number if order.own_trash else 0
    mine = {pack for owner, pack in world.trash if owner == whose}
    dead = (world.store | {pack for _, pack in world.trash}) - set(world.refs)

    def then(step: str, changed: World = world, **changes: object) -> World:
        return with_sweeper(changed, number, me._replace(step=step, **changes))  # type: ignore[arg-type]

    match me.step:
        case "take":
            yield then("fence", world._replace(lease=agent) if order.lease else world)
        case "fence":
            yield then("condemn", world._replace(ref_locks=frozenset()) if order.fence and order.lease else world)
        case "condemn":
            yield then("trash", condemned=frozenset(dead & world.store))
        case "trash":
            left = me.condemned & world.store
            for pack in left if order.through_trash else ():
                yield then("trash", world._replace(store=world.store - {pack}, trash=world.trash | {(whose, pack)}))
            others = {(owner, pack) for owner, pack in world.trash if owner != whose} if order.own_trash else set()
            for owner, pack in others:
                yield then("trash", world._replace(trash=world.trash - {(owner, pack)} | {(whose, pack)}))
            if not (left or others) or not order.through_trash:
                moving = (n for n, w in enumerate(world.writers) if w.step in ("lock", "check", "move"))
                yield then("grace", waits_for=frozenset(moving) if order.grace else frozenset())
        case "grace":
            still = {n for n in me.waits_for if world.writers[n].step in ("lock", "check", "move")}
            if not order.grace or not still:
                yield then("reread", waits_for=frozenset())
        case "reread":
            # Live ones, also those that a killed sweep left in the trash, go back.
            live = mine - dead if order.reread else set()
            back = world._replace(store=world.store | live, trash=world.trash - {(whose, pack) for pack in live})
            going = mine - live if order.through_trash else me.condemned
            yield then("check", back, condemned=frozenset(going))
        case "check":
            held = not order.lease or not order.check_before_delete or world.lease == agent
            yield then("delete") if held else given_up
        case "delete":
            left = me.condemned & (mine if order.through_trash else world.store)
            for pack in left:
                if order.through_trash:
                    yield then("delete", world._replace(trash=world.trash - {(whose, pack)}))
                else:
                    yield then("delete", world._replace(store=world.store - {pack}))
            if not left:
                yield given_up


def successors(world: World, order: Protocol) -> Iterator[World]:
    for number, writer in enumerate(world.writers):
        if writer.step not in (DEAD, DONE):
            yield from writer_steps(world, number, order)
            yield with_writer(world, number, Writer(DEAD))
    for number, sweeper in enumerate(world.sweepers):
        if sweeper.step not in (DEAD, DONE):
            yield from sweeper_steps(world, number, order)
            yield with_sweeper(world, number, Sweeper(DEAD))


def broken(world: World) -> bool:
    there = world.store | {pack for _, pack in world.trash}
    return any(pack != NOBODY and pack not in there for pack in world.refs)


def reachable(start: World, order: Protocol) -> Iterator[World]:
    seen = {start}
    todo = deque(seen)
    while todo:
        world = todo.popleft()
        yield world
        for after in successors(world, order):
            if after not in seen:
                seen.add(after)
                todo.append(after)


def explore(start: World, order: Protocol) -> tuple[int, World | None]:
    """(how many states there are, the first broken one)."""
    count = 0
    for count, world in enumerate(reachable(start, order), 1):
        if broken(world):
            return count, world
    return count, None


LEASED = Protocol()
# Locks that keep nobody out: then time has to help.
UNLOCKED = Protocol(lease=False, grace=True)


@pytest.mark.parametrize(
    ("order", "writers", "sweepers", "least"),
    [(LEASED, 2, 1, 25_000), (LEASED, 1, 2, 25_000), (UNLOCKED, 2, 1, 8_000)],
    ids=["leased", "two sweepers", "unlocked"],
)
def test_no_ref_leads_to_a_deleted_pack(order: Protocol, writers: int, sweepers: int, least: int) -> None:
    states, found = explore(begin(writers, sweepers), order)
    assert found is None
    assert states > least, "the model has lost steps"


@pytest.mark.parametrize(
    ("order", "step", "writers", "sweepers"),
    [
        (LEASED, "fence", 2, 1),
        (LEASED, "check_before_move", 2, 1),
        (LEASED, "check_inside_lock", 2, 1),
        (LEASED, "check_before_delete", 2, 1),
        (LEASED, "through_trash", 2, 1),
        (LEASED, "own_trash", 1, 2),
        (UNLOCKED, "recheck", 2, 1),
        (UNLOCKED, "reread", 2, 1),
        (UNLOCKED, "grace", 2, 1),
        (UNLOCKED, "through_trash", 2, 1),
    ],
)
def test_leaving_a_step_out_is_seen(order: Protocol, step: str, writers: int, sweepers: int) -> None:
    _, found = explore(begin(writers, sweepers), order._replace(**{step: False}))
    assert found is not None


@pytest.mark.parametrize("step", ["recheck", "reread"])
def test_with_a_lease_two_steps_are_a_second_line(step: str) -> None:
    """They are there for who moves refs without it: git itself, or a run on a disk too full for a lease."""
    _, found = explore(begin(1, 1), LEASED._replace(**{step: False}))
    assert found is None


def test_everybody_can_come_to_an_end() -> None:
    """The model is not safe because nothing happens in it: saved by the old pack, by a new one, and swept."""
    ends = {
        (world.refs, P in world.store, all(writer.acknowledged for writer in world.writers))
        for world in reachable(begin(2, 1), LEASED)
        if all(agent.step == DONE for agent in (*world.writers, *world.sweepers))
    }
    assert ((P, P), True, True) in ends
    assert ((1, 2), False, True) in ends
    assert ((NOBODY, NOBODY), False, False) in ends
