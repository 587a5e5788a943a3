"""The quota: what fits is counted, what does not is kept out, and little room is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitvault.core.backup_engine.quota import Quota
from gitvault.errors import StorageFullError


def test_what_fits_is_counted_and_what_does_not_is_kept_out() -> None:
    quota = Quota(Path("v.git"), 2000 << 20, 1000 << 20)
    quota.admit(700 << 20)
    assert quota.note() is None
    quota.admit(150 << 20)
    assert "takes 1.8 GiB of the 2.0 GiB that vault.quota allows" in (quota.note() or "")
    with pytest.raises(StorageFullError, match=r"v.git: 1.8 GiB of the 2.0 GiB .* 151.0 MiB more are needed"):
        quota.admit(151 << 20)
    assert quota.reached
    quota.admit(150 << 20)
    with pytest.raises(StorageFullError, match="1 B more"):
        quota.admit(1)
