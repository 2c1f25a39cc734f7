"""Records of all shards, wherever these are open: here, or in other processes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from numpy.typing import ArrayLike

from ..collection import Record
from ..collection.known_fields import merge
from ..collection.parts import Part
from ..collection.validation import Id, is_single_id, validate_ids
from ..collection.where import Where
from ..errors import UnknownIdError
from .searching import Question

__all__ = ["Reading"]


class Reading:
    """What is read of shards by a question to each of them."""

    def _each(self, question: Question) -> list[Any]:
        """What each shard answers, in their order."""
        raise NotImplementedError

    def _need_all(self) -> None:
        """Raise what is wrong with a shard, if anything is."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, id: object) -> bool:
        return is_single_id(id) and bool(self.get(id, missing="skip"))  # type: ignore[arg-type]

    def get(self, ids: Id | Sequence[Id] | ArrayLike, *, missing: Literal["raise", "skip"] = "raise") -> list[Record]:
        """The records of these ids, in this order, as Collection.get().

        Raises:
            UnknownIdError: some do not exist; the message names one
            ShardNotFoundError: they may be in a shard that is missing
            CorruptCollectionError: a record is damaged
        """
        wanted = validate_ids(ids)
        answers: list[list[Record]] = self._each(partial(Part.get, ids=wanted, missing=missing))
        found = {record.id: record for some in answers for record in some}
        unknown = next((id for id in wanted if id not in found), None)
        if unknown is not None and missing == "raise":
            self._need_all()
            raise UnknownIdError(f"no record has the id {unknown!r}")
        return [found[id] for id in wanted if id in found]

    def count(self, where: Where | None = None, params: Sequence[Any] | None = None) -> int:
        """How many records there are, or how many satisfy a condition.

        Raises:
            WhereError: the condition is wrong
        """
        return sum(self._each(partial(Part.count, where=where, params=params)))

    def unknown_fields(self, where: Where, params: Sequence[Any] | None = None) -> dict[str, list[str]]:
        """The fields that a condition names and no record has, each with up to 3 names that are like it.

        Raises:
            WhereError: the condition is wrong
        """
        return merge(self._each(partial(Part.unknown_fields, where=where, params=params)))

    def ids(self, where: Where | None = None, params: Sequence[Any] | None = None) -> list[Id]:
        """The ids of all records, or of those that satisfy a condition, in the order of the import.

        Raises:
            WhereError: the condition is wrong
        """
        return [id for some in self._each(partial(Part.ids, where=where, params=params)) for id in some]
