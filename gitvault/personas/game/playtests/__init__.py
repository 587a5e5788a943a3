"""Playtests: sessions recorded beside the game, kept with the build they are of, looked at and compared."""

from gitvault.personas.game.playtests.figures import Comparison, Levels, Step, at, compare, funnel, heat_map, levels
from gitvault.personas.game.playtests.recorder import Recorder
from gitvault.personas.game.playtests.sessions import Kept, Session, events, find, keep, lines_of, sessions

__all__ = [
    "Comparison",
    "Kept",
    "Levels",
    "Recorder",
    "Session",
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
]
