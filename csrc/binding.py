"""Write the C source of the extension module edgevec._core: python binding.py edgevec.h OUT.c [testing]

testing: with the hook of edgevec_test.h that makes allocations fail, which no release has.

The declarations are those of the public header between its cdef marks: no signature is written twice.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cffi import FFI

MODULE = "edgevec._core"
CALLBACKS = """extern "Python" {
    int ev__progress_py(void *, int64_t, int64_t);
    int ev__interrupt_py(void *);
}
"""
FAULTS = "int64_t ev_fault_alloc(int64_t n);"


def declarations(header: str) -> str:
    """The part of the header that cffi reads: what lies between the lines with the cdef marks."""
    marked, _, _ = header.partition("/* cdef-end")
    _, begin, body = marked.partition("/* cdef-begin")
    if not begin:
        raise ValueError("the header has no cdef marks")
    return begin + body


def write_binding(header: Path, out: Path, *, testing: bool) -> None:
    ffi = FFI()
    ffi.cdef(declarations(header.read_text(encoding="utf-8")) + CALLBACKS + (FAULTS if testing else ""))
    ffi.set_source(MODULE, f'#include "{"edgevec_test.h" if testing else header.name}"')
    ffi.emit_c_code(str(out))


if __name__ == "__main__":
    write_binding(Path(sys.argv[1]), Path(sys.argv[2]), testing="testing" in sys.argv[3:])
