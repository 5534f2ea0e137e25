"""Hook of mkdocs.yml: pages that stand above docs, and links out of it, as they are in the repository.

A notebook becomes a page of Markdown, like any other. A link between pages leads to the page; figures elsewhere in the
repository are taken into the site; a link to any other file there becomes its text, as the site has no sources. What
leads nowhere is left for ``mkdocs build --strict``.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
ABOVE = {
    "index.md": "README.md",
    **{f"{name.lower()}.md": f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")},
}
NOTEBOOK = ".ipynb"

_LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\(([^()\s#:]+)(#[^()\s]*)?\)")


def as_page(uri: str) -> str:
    """Where the page of a notebook stands; other files stand where they are."""
    return f"{uri.removesuffix(NOTEBOOK)}.md" if uri.endswith(NOTEBOOK) else uri


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for uri, name in ABOVE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    for file in [file for file in files if file.src_uri.endswith(NOTEBOOK)]:
        files.remove(file)
        markdown, _ = MarkdownExporter().from_filename(str(file.abs_src_path))
        files.append(File.generated(config, as_page(file.src_uri), content=markdown))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    uri = page.file.src_uri
    folder = (ROOT / ABOVE[uri] if uri in ABOVE else ROOT / "docs" / uri).parent

    def moved(link: re.Match[str]) -> str:
        image, text, target, anchor = link.groups("")
        path = (folder / target).resolve()
        if not path.exists():
            return link[0]
        inside = path.relative_to(ROOT).as_posix()
        there = next((page for page, name in ABOVE.items() if name == inside), as_page(inside.removeprefix("docs/")))
        if image and files.get_file_from_path(there) is None:
            files.append(File.generated(config, there, abs_src_path=str(path)))
        if files.get_file_from_path(there) is None:
            return text
        return f"{image}[{text}]({posixpath.relpath(there, posixpath.dirname(uri) or '.')}{anchor})"

    # Marks of generated tables: beside a table they would be rows of it.
    return _LINK.sub(moved, re.sub(r"^<!-- .* -->$", "", markdown, flags=re.MULTILINE))
