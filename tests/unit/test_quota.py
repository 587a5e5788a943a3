"""The quota: what fits is counted, what does not is kept out, and little room is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitvault.core.backup_engine.quota import Quota
from gitvault.errors import StorageFullError


def test_what_fits_is_counted_and_what_does_not_is_kept_out() -> None:
    quota = Quota(Path("v.git"), 2_000_000_000, 1_000_000_000)
    quota.admit(700_000_000)
    assert quota.note() is None
    quota.admit(150_000_000)
    assert "takes 1.85 GB of the 2.00 GB that vault.quota allows" in (quota.note() or "")
    with pytest.raises(StorageFullError, match=r"v.git: 1.85 GB of the 2.00 GB .* 151.00 MB more are needed"):
        quota.admit(151_000_000)
    assert quota.reached
    quota.admit(150_000_000)
    with pytest.raises(StorageFullError, match="0 kB more"):
        quota.admit(1)
