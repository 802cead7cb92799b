"""Values of a compiled expression as bound parameters; its text never holds one."""

from __future__ import annotations

import re
from typing import Any, Final

_PLACEHOLDER: Final = re.compile(r"\{(\w+):")


class Binder:
    """Collects the parameters of one statement, each under a name of its own."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    def bind(self, value: object, kind: str) -> str:
        """The placeholder of a value of a ClickHouse type."""
        name = f"b{len(self.parameters)}"
        self.parameters[name] = value
        return f"{{{name}:{kind}}}"

    def number(self, value: float) -> str:
        """The placeholder of a number."""
        return self.bind(float(value), "Float64")

    def embed(self, sql: str, parameters: dict[str, Any]) -> str:
        """A statement with parameters of its own as a part of this one: they get names that are not taken yet."""
        names = {name: f"b{len(self.parameters) + place}" for place, name in enumerate(parameters)}
        self.parameters.update({names[name]: value for name, value in parameters.items()})
        return _PLACEHOLDER.sub(lambda match: f"{{{names[match[1]]}:", sql)
