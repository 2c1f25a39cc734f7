"""From an exception to a message for the user, with advice on what to do."""

from __future__ import annotations

from dataclasses import dataclass

import edgevec

__all__ = ["ErrorMessage", "explain"]


@dataclass(frozen=True)
class ErrorMessage:
    """An error to be shown. title: what did not work; reason: why; advice: what to do."""

    title: str
    reason: str
    advice: str


_ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (edgevec.MissingExtraError, "Install what is named, then start the app again."),
    (edgevec.LockedError, "Wait until the other program is done with it, then try again."),
    (edgevec.CorruptCollectionError, "If it is one: edgevec db FILE check says what is wrong. Or take a copy of it."),
    (edgevec.CollectionNotFoundError, "Look for it in the file tree, or make one: edgevec db FILE import."),
    (edgevec.CorruptIndexError, "Build the index again from its data, or restore the file from a copy."),
    (edgevec.FormatVersionError, "Update edgevec: pip install -U edgevec"),
    (edgevec.DataNotFoundError, "Look for it in the file tree, or check the path."),
    (edgevec.IndexNotFoundError, "Look for it in the file tree, or check the path."),
    (edgevec.DataFormatError, "Check the file, or convert it to .npy, .parquet or .jsonl."),
    (edgevec.NotFiniteError, "Repair or leave out the row that is named."),
    (edgevec.ZeroVectorError, "Leave out the row that is named, or choose the metric l2 or ip."),
    (edgevec.DuplicateIdError, "Give every row an id of its own."),
    (edgevec.NoVectorsError, "Open the data that the index was built from."),
    (edgevec.SimdError, "Unset EDGEVEC_SIMD, or name a path that this machine has."),
    (MemoryError, "Close other programs, read fewer rows, or build with a smaller M."),
    (PermissionError, "Choose another folder, or change the file's permissions."),
    (OSError, "Check that the disk is there and has room, then try again."),
    (ValueError, "Change what is named and try again."),
)


def explain(title: str, error: BaseException) -> ErrorMessage:
    """The message for an exception; one that is none of edgevec's or the system's is called a fault of the app."""
    reason = " ".join(str(error).split()) or type(error).__name__
    advice = next((advice for kind, advice in _ADVICE if isinstance(error, kind)), "")
    if not isinstance(error, (edgevec.EdgevecError, OSError, MemoryError)):
        reason = f"{type(error).__name__}: {reason}"
        advice = "This is a fault of the app. Nothing on disk was changed; please report it with this message."
    return ErrorMessage(title, reason, advice)
