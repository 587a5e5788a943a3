"""Feedback: what players say and what their games report, with the build it is about."""

from gitvault.personas.game.feedback.record import KINDS, Feedback

__all__ = ["KINDS", "Feedback"]
