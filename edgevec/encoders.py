"""Vectors of texts: a function, or a model by its name, for edgevec.open(..., encoder=).

    notes = edgevec.open("notes.edgevec", encoder="model2vec:minishlab/potion-base-8M")
    notes.upsert(["a", "b"], documents=["a large yellow fruit", "a device that measures temperature"])
    notes.search("thermometer", k=1)

Names are "model2vec:NAME", "fastembed:NAME" and "sentence-transformers:NAME", each of the library and the extra of that
name, and "example:wordnet", the word table of the sample, to try things with, which is no model.

NAME is what the library takes: a model of its hub, or a folder. The library is imported when the collection is opened,
and it fetches the model where it has not done so before. `register()` adds a kind of name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import samples
from .errors import EdgevecError, MissingExtraError, ParameterError
from .printable import brief

__all__ = ["Encoder", "TextEncoder", "as_encoder", "kinds", "register"]

Encoder = Callable[[list[str]], ArrayLike]
"""Texts to vectors [n, dim]."""


class TextEncoder:
    """An encoder and the name that a collection keeps of it.

    Any thread that stores or searches calls the functions, several at a time.

    Args:
        name: what a collection keeps; None: nothing is kept, so nothing can be checked
        documents: from a list of n texts to vectors [n, dim]
        queries: the same for texts that are searched for, where the model treats them otherwise; None: documents

    Example:
        >>> import edgevec
        >>> from edgevec.encoders import TextEncoder
        >>> def lengths(texts):
        ...     return [[len(text), 1] for text in texts]
        >>> with edgevec.open(":memory:", encoder=TextEncoder("lengths-1", lengths)) as made:
        ...     made.upsert(["a", "b"], documents=["short", "a longer text"])
        ...     made.encoder, made.search("brief", k=1)[0].id
        2
        ('lengths-1', 'a')
    """

    def __init__(self, name: str | None, documents: Encoder, queries: Encoder | None = None) -> None:
        if name is not None and not (isinstance(name, str) and name):
            raise ParameterError(f"the name of an encoder must be a text, not {brief(name)}")
        for function in (documents, documents if queries is None else queries):
            if not callable(function):
                raise ParameterError(f"an encoder must be a function, not {type(function).__name__}")
        self.name = name
        self.documents = documents
        self.queries = documents if queries is None else queries

    def __call__(self, texts: list[str]) -> ArrayLike:
        return self.documents(texts)

    @property
    def label(self) -> str:
        """For messages: the name, or that of the function."""
        if self.name is not None:
            return repr(self.name)
        return str(getattr(self.documents, "__qualname__", None) or type(self.documents).__name__)

    def __repr__(self) -> str:
        return f"TextEncoder({self.label})"


def register(kind: str, load: Callable[[str], Encoder]) -> None:
    """Let names "KIND:NAME" stand for encoders of your own.

    Args:
        kind: what comes before the colon. A kind that exists is replaced.
        load: from what comes after it to a function, or to a TextEncoder where queries are treated otherwise; its name
            becomes "KIND:NAME"

    Raises:
        ParameterError: when the kind is empty or holds a colon

    Example:
        >>> from edgevec import encoders
        >>> encoders.register("hashing", lambda name: lambda texts: [[hash(text) % 97, 1] for text in texts])
        >>> encoders.as_encoder("hashing:97")
        TextEncoder('hashing:97')
    """
    if not (isinstance(kind, str) and kind) or ":" in kind:
        raise ParameterError(f"the kind of an encoder must be a text without a colon, not {brief(kind)}")
    _LOADERS[kind] = load


def kinds() -> list[str]:
    """What may come before the colon of a name."""
    return sorted(_LOADERS)


def as_encoder(encoder: str | Encoder) -> TextEncoder:
    """What edgevec.open() takes as `encoder`, with the model loaded.

    Raises:
        ParameterError: when it is neither a function nor a name of a known kind, or the model cannot be loaded
        MissingExtraError: when its library is not installed; the message names the extra
    """
    if isinstance(encoder, TextEncoder):
        return encoder
    if callable(encoder):
        return TextEncoder(None, encoder)
    if not isinstance(encoder, str):
        raise ParameterError(f"encoder must be a function or a name, not {type(encoder).__name__}")
    kind, _, name = encoder.partition(":")
    if kind not in _LOADERS or not name:
        known = ", ".join(f"{known}:NAME" for known in kinds())
        raise ParameterError(f"no encoder has the name {brief(encoder)}; there are {known}")
    try:
        made = _LOADERS[kind](name)
    except EdgevecError:
        raise
    except Exception as error:  # whatever the library makes of a name that it does not know, or of no network
        why = " ".join(str(error).split()) or type(error).__name__
        raise ParameterError(f"the encoder {encoder!r} cannot be loaded: {why}") from error
    if isinstance(made, TextEncoder):
        return TextEncoder(encoder, made.documents, made.queries)
    return TextEncoder(encoder, made)


def _library(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"encoders {extra}:NAME need more: pip install 'edgevec[{extra}]'") from error


def _model2vec(name: str) -> Encoder:
    model = _library("model2vec", "model2vec").StaticModel.from_pretrained(name, force_download=False)
    return lambda texts: model.encode(texts)


def _fastembed(name: str) -> Encoder:
    model = _library("fastembed", "fastembed").TextEmbedding(name)
    return TextEncoder(
        None, lambda texts: np.stack([*model.passage_embed(texts)]), lambda texts: np.stack([*model.query_embed(texts)])
    )


def _sentence_transformers(name: str) -> Encoder:
    model = _library("sentence_transformers", "sentence-transformers").SentenceTransformer(name)
    return TextEncoder(
        None,
        lambda texts: model.encode_document(texts, show_progress_bar=False),
        lambda texts: model.encode_query(texts, show_progress_bar=False),
    )


def _example(name: str) -> Encoder:
    if name != "wordnet":
        raise ParameterError(f"there is no example {brief(name)}, only example:wordnet")
    encode = samples.wordnet().encode
    return lambda texts: np.stack([encode(text) for text in texts])


_LOADERS: dict[str, Callable[[str], Encoder]] = {
    "model2vec": _model2vec,
    "fastembed": _fastembed,
    "sentence-transformers": _sentence_transformers,
    "example": _example,
}
