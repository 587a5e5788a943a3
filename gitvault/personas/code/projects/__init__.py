"""Fifty projects at once: chosen by words, told about together, edited in one go."""

from gitvault.personas.code.projects.overview import Standing, overview
from gitvault.personas.code.projects.selection import chosen, select

__all__ = ["Standing", "chosen", "overview", "select"]
