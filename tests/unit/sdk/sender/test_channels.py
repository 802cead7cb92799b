"""Where a token may be sent."""

from __future__ import annotations

import pytest

from thalweg.errors import SettingError
from thalweg.sender.channels import bearer_metadata, is_private, open_blocking_channel


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("grpcs://tracker.example:443", True),
        ("tracker.example:7411", False),
        ("10.0.0.1:7411", False),
        ("127.0.0.1:7411", True),
        ("localhost:7411", True),
        ("[::1]:7411", True),
        ("127.evil.example:7411", False),
    ],
)
def test_what_nobody_on_the_way_can_read(address: str, private: bool) -> None:
    """With TLS, or on this machine."""
    assert is_private(address) is private


def test_what_is_no_address() -> None:
    """Told by the name of its setting."""
    for text in ("http://tracker:7411", "grpcs://", ""):
        with pytest.raises(SettingError, match="THALWEG_GRPC"):
            open_blocking_channel(text)


def test_a_token_is_shown_if_there_is_one() -> None:
    """As a bearer's."""
    assert bearer_metadata("x") == (("authorization", "Bearer x"),)
    assert bearer_metadata(None) == ()
