"""Playtests: sessions recorded beside the game, kept with the build they are of, looked at and compared."""

from gitvault.personas.game.playtests.figures import Comparison, Levels, Step, at, compare, funnel, levels
from gitvault.personas.game.playtests.pictures import Side, heat_map, side_by_side
from gitvault.personas.game.playtests.recorder import Recorder
from gitvault.personas.game.playtests.sessions import Kept, Session, events, find, keep, lines_of, sessions

__all__ = [
    "Comparison",
    "Kept",
    "Levels",
    "Recorder",
    "Session",
    "Side",
    "Step",
    "at",
    "compare",
    "events",
    "find",
    "funnel",
    "heat_map",
    "keep",
    "levels",
    "lines_of",
    "sessions",
    "side_by_side",
]
