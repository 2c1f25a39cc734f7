"""Every error is an EdgevecError and the builtin that a caller would catch anyway."""

from __future__ import annotations

import pytest

from edgevec import errors

BUILTINS = {
    errors.ParameterError: ValueError,
    errors.NotFiniteError: ValueError,
    errors.ZeroVectorError: ValueError,
    errors.DuplicateIdError: ValueError,
    errors.UnknownIdError: KeyError,
    errors.NoVectorsError: ValueError,
    errors.OutOfMemoryError: MemoryError,
    errors.SimdError: RuntimeError,
    errors.StorageError: OSError,
    errors.CorruptIndexError: ValueError,
    errors.FormatVersionError: ValueError,
    errors.IndexNotFoundError: FileNotFoundError,
    errors.MissingExtraError: ImportError,
    errors.DataFormatError: ValueError,
    errors.DataNotFoundError: FileNotFoundError,
}


@pytest.mark.parametrize(("error", "builtin"), BUILTINS.items())
def test_an_error_is_also_a_builtin_and_says_its_message(
    error: type[errors.EdgevecError], builtin: type[Exception]
) -> None:
    assert issubclass(error, errors.EdgevecError)
    assert issubclass(error, builtin)
    assert str(error("row 3: it's NaN")) == "row 3: it's NaN"
