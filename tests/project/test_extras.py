"""The library needs NumPy and cffi. What is for some uses alone may be missing, and an error names what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

OPTIONAL = ("click", "rich", "edgevec_sample", "textual", "matplotlib", "pyarrow", "h5py", "safetensors")
OF_THE_BUILD = ("lark",)
"""It makes the parser's tables; what is installed does without it."""
# `sys.modules[name] = None` makes `import name` fail as it does where nothing of that name is installed.
WITHOUT = f"import sys\nsys.modules.update(dict.fromkeys({OPTIONAL + OF_THE_BUILD!r}))\n"

pytestmark = pytest.mark.subprocess


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT + program], capture_output=True, text=True, timeout=120)


def last_line(program: str) -> str:
    done = run(program)
    assert done.returncode != 0
    return done.stderr.splitlines()[-1]


def test_an_index_and_a_collection_need_numpy_and_cffi_alone() -> None:
    done = run(
        "import edgevec\n"
        "index = edgevec.Index(2)\n"
        "index.add([[1, 0], [0, 1]])\n"
        "assert index.search([1, 0], k=1).ids.tolist() == [0]\n"
        "with edgevec.open(':memory:', dim=2) as made:\n"
        "    made.upsert(['a', 'b'], [[1, 0], [0, 1]], [{'year': 1979}, {'year': 1995}], ['one', 'two'])\n"
        "    assert [hit.id for hit in made.search([0, 1], 2, where={'year': {'$lt': 1990}})] == ['a']\n"
        "    assert [hit.id for hit in made.search([0, 1], 2, where='year < 1990')] == ['a']\n"
        "    assert [hit.id for hit in made.search(text='two', k=1)] == ['b']\n"
    )
    assert done.returncode == 0, done.stderr


def test_the_sample_names_its_extra() -> None:
    said = last_line("from edgevec import samples\nsamples.wordnet()\n")
    assert "DataNotFoundError" in said
    assert 'pip install "edgevec[demo]"' in said


@pytest.mark.parametrize("arguments", [["--version"], ["demo"]])
def test_the_command_line_names_its_extra(arguments: list[str]) -> None:
    done = run(f"sys.argv[1:] = {arguments!r}\nfrom edgevec.cli import main\nmain()\n")
    assert done.returncode == 2
    assert "pip install 'edgevec[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_without_the_sample_says_what_to_install() -> None:
    program = "del sys.modules['click'], sys.modules['rich']\nsys.argv[1:] = ['demo', 'fruit']\n"
    done = run(program + "from edgevec.cli import main\nmain()\n")
    assert done.returncode == 2
    assert done.stderr.startswith("edgevec: the WordNet sample is not installed")
    assert len(done.stderr.splitlines()) == 1
