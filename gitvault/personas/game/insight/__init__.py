"""What feedback says of builds: what it is about, what rose, and which change may have caused it.

signatures   under which name reports of the same trouble meet
categories   what feedback is about, by rules that can be read and changed
alike        what says the same in nearly the same words
spikes       the statistics of what rose between builds
suspects     changes ranked by what reports name
changes      what is different between two builds
builds       these, asked of a project's records
page         all of it about two builds, as a page
"""

from gitvault.personas.game.insight.builds import (
    Build,
    ByCategory,
    Resolved,
    Rises,
    Suspicion,
    by_category,
    played_builds,
    resolved,
    rises,
    suspicion,
)
from gitvault.personas.game.insight.spikes import Spike
from gitvault.personas.game.insight.suspects import Suspect

__all__ = [
    "Build",
    "ByCategory",
    "Resolved",
    "Rises",
    "Spike",
    "Suspect",
    "Suspicion",
    "by_category",
    "played_builds",
    "resolved",
    "rises",
    "suspicion",
]
