"""`python -m gitvault`: the command line."""

from __future__ import annotations

import sys

from gitvault.cli.main import main

sys.exit(main())
