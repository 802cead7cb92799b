"""Names are quoted or rejected; values become text that ClickHouse reads back as the same value."""

import numpy as np
import pytest

from thalweg_tracker.engine.contract import Scalar
from thalweg_tracker.engine.literals import between_quotes, parameter_texts, quote_identifier
from thalweg_tracker.errors import RejectedError


@pytest.mark.parametrize("name", ["a", "_", "points", "Run_1", "x" * 128])
def test_identifiers(name: str) -> None:
    """A plain identifier is put between backticks."""
    assert quote_identifier(name) == f"`{name}`"


@pytest.mark.parametrize("name", ["", "1a", "a b", "a.b", "a`b", "a\nb", "a\n", "ä", "a-b", "x" * 129, "a;", "a\0"])
def test_no_identifiers(name: str) -> None:
    """Anything else is rejected, not repaired; the message shows it."""
    with pytest.raises(RejectedError) as rejected:
        quote_identifier(name)
    assert repr(name) in str(rejected.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        ("it's", "it's"),
        ("a\\b", "a\\\\b"),
        ("a\tb\nc\rd\0e", "a\\tb\\nc\\rd\\0e"),
        ("\\N", "\\\\N"),
        ("[1,2]", "[1,2]"),
        (0, "0"),
        (-1, "-1"),
        (2**64 - 1, "18446744073709551615"),
        (True, "1"),
        (False, "0"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (5e-324, "5e-324"),
        (1e300, "1e+300"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        (np.float64(0.5), "0.5"),
        ([], "[]"),
        ((), "[]"),
        ([1, 2], "[1,2]"),
        ((1,), "[1]"),
        ([True, False], "[1,0]"),
        ([0.5, np.float64(1.5), float("nan")], "[0.5,1.5,nan]"),
        (["a", ""], "['a','']"),
        (["it's", "a\\b", "'],['", "n\0l", "l\nl"], "['it\\'s','a\\\\b','\\'],[\\'','n\\0l','l\nl']"),
    ],
)
def test_parameters(value: Scalar, text: str) -> None:
    """Scalars are TSV fields, arrays are literals."""
    assert parameter_texts({"p": value}) == {"p": text}


def test_between_quotes() -> None:
    """Nothing in a text can end the literal that it stands in."""
    assert between_quotes("it's \\ \0") == "it\\'s \\\\ \\0"
