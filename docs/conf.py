"""The documentation, built by Sphinx: `tox run -e docs`."""

from __future__ import annotations

import builtins

from sphinx.application import Sphinx

import edgevec

project = "edgevec"
author = "the edgevec developers"
copyright = "the edgevec developers"
version = release = edgevec.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"edgevec {version}"
html_static_path = ["_static"]
html_css_files = ["wide-tables.css"]
html_copy_source = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

autoclass_content = "class"
autodoc_inherit_docstrings = False  # those of other libraries are not in our words
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
add_module_names = False
maximum_signature_line_length = 88


HIDDEN_COLON = "\ue000"


def setup(app: Sphinx) -> None:
    # Napoleon, at 500, takes what stands before a colon in an attribute's first line for a type; here it never is one.
    app.connect("autodoc-process-docstring", hide_colons, priority=400)
    app.connect("autodoc-process-docstring", show_colons, priority=600)
    app.connect("autodoc-process-bases", name_public_bases)


def hide_colons(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    if what in ("attribute", "data", "property") and lines:
        lines[0] = lines[0].replace(":", HIDDEN_COLON)


def show_colons(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = [line.replace(HIDDEN_COLON, ":") for line in lines]


def name_public_bases(app: Sphinx, name: str, obj: object, options: object, bases: list[type]) -> None:
    """A private base class is nothing to a reader: what it derives from stands in its place."""
    bases[:] = [shown for base in bases for shown in (base.__bases__ if base.__name__.startswith("_") else (base,))]


# Types that are described elsewhere: other projects' pages are not read when this is built.
others = (
    "numpy|np|npt|collections|pathlib|os|typing|types|click|sqlite3|matplotlib|langchain_core|llama_index|scipy|sklearn"
)
names = "ArrayLike|NDArray|PathLike|Path|Any|Callable|Iterable|Iterator|Mapping|Sequence|Literal|Protocol|NamedTuple"
nitpick_ignore_regex = [
    (r"py:.*", rf"({others})\..*"),
    (r"py:.*", rf"{names}|Metric|Id"),
    (r"py:.*", "|".join(name for name in dir(builtins) if name.isidentifier())),
]
