"""The OpenAPI document is part of the contract."""

from tools.write_openapi import PLACE, document


def test_the_document_is_that_of_the_code() -> None:
    """`make openapi` writes it anew; the difference is to be read as a change of the API."""
    assert PLACE.read_text() == document()
