"""Values for the parameters of a condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...errors import WhereError
from .nodes import All, Any_, Node, Not, OneOf, Parameter, Pattern, Test, as_list, as_value

__all__ = ["bind"]


def bind(node: Node, params: Sequence[Any], text: str) -> Node:
    """The tree with values for its parameters."""
    if isinstance(params, (str, bytes)) or not isinstance(params, Sequence):
        raise WhereError(f"params must be a list of values, not {type(params).__name__}")
    return _Binding(params, text).bind(node)


class _Binding:
    def __init__(self, params: Sequence[Any], text: str) -> None:
        self.params, self.text = params, text
        self.used = 0

    def bind(self, node: Node) -> Node:
        bound = self._node(node)
        if self.used < len(self.params):
            raise WhereError(f"too many params: {len(self.params)} for {self.used} '?'")
        return bound

    def _node(self, node: Node) -> Node:
        if isinstance(node, Not):
            return Not(self._node(node.part))
        if isinstance(node, (All, Any_)):
            return type(node)(tuple(self._node(part) for part in node.parts))
        if isinstance(node, Test):
            return Test(node.field, node.operator, self._value(node.value))
        if isinstance(node, Pattern):
            return Pattern(node.field, self._value(node.pattern), node.escape, node.fold)
        if isinstance(node, OneOf):
            if isinstance(node.values, Parameter):
                return OneOf(node.field, self._take(node.values, as_list))
            return OneOf(node.field, tuple(self._value(value) for value in node.values))
        return node

    def _value(self, value: Any) -> Any:
        return self._take(value, as_value) if isinstance(value, Parameter) else value

    def _take(self, parameter: Parameter, read: Callable[[Any], Any]) -> Any:
        if self.used == len(self.params):
            raise WhereError(f"no param for this '?': only {self.used} given", self.text, parameter.position)
        self.used += 1
        try:
            return read(self.params[self.used - 1])
        except WhereError as error:
            raise WhereError(error.problem, self.text, parameter.position) from None
