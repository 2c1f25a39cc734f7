"""Do the links of the documentation lead anywhere? Those that leave it are listed, not followed.

    python docs/check_links.py docs/_build/html

Looks at every page that Sphinx has built, and at the Markdown files that are read in the repository. A link to a file
or an anchor that is not there is an error. The list of other sites is written to external-links.txt beside the pages.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
READ_IN_PLACE = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benches/*.md", "wasm/README.md"]
MARKDOWN_LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors, self.links = {"", "top"}, []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name"):
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


@cache
def html(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@cache
def headings(path: Path) -> set[str]:
    """The anchors of a Markdown file, as GitHub makes them."""
    lines = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def links_of(path: Path) -> list[str]:
    if path.suffix == ".html":
        return html(path).links
    return MARKDOWN_LINK.findall(CODE.sub("", path.read_text(encoding="utf-8")))


def fault(source: Path, link: str) -> str | None:
    parts = urlsplit(link)
    target = (source.parent / unquote(parts.path)).resolve() if parts.path else source
    if not target.exists():
        return "no such file"
    if parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in html(target).anchors:
        return "no such anchor"
    if parts.fragment and target.suffix == ".md" and parts.fragment not in headings(target):
        return "no such heading"
    return None


def main(built: Path) -> int:
    sources = sorted(built.rglob("*.html")) + [path for pattern in READ_IN_PLACE for path in sorted(ROOT.glob(pattern))]
    elsewhere, faults = set(), 0
    for source in sources:
        for link in links_of(source):
            if urlsplit(link).scheme or link.startswith("//"):
                elsewhere.add(link)
            elif problem := fault(source, link):
                print(f"{source}: {link}: {problem}", file=sys.stderr)
                faults += 1
    (built.parent / "external-links.txt").write_text("\n".join(sorted(elsewhere)) + "\n", encoding="utf-8")
    print(f"{len(sources)} pages, {faults} broken links, {len(elsewhere)} links to other sites (not followed)")
    return 1 if faults or not sources else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
