"""The documentation, built by Sphinx: `tox run -e docs`."""

from __future__ import annotations

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
exclude_patterns = ["README.md"]
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
napoleon_use_rtype = False

autoclass_content = "class"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {name: name for name in ("ArrayLike", "Progress", "Metric", "Quantization", "KeepVectors")}
add_module_names = False
maximum_signature_line_length = 88

# Types that are described elsewhere: other projects' pages are not read when this is built.
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|npt|collections|pathlib|os|typing|types|click|sqlite3|matplotlib|langchain_core|llama_index)\..*"),
    (r"py:.*", r"(ArrayLike|NDArray|PathLike|Path|Any|Callable|Iterable|Iterator|Mapping|Sequence|Literal|Protocol|NamedTuple)"),
    (r"py:(class|exc|data|obj)", r"[a-z]+|[A-Z][A-Za-z]*(Error|Warning|Exception)"),
]
