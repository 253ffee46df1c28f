"""What the site shows beyond docs/: configs, changelog, and tables made when it is built.

MkDocs calls the functions by their names. Links stay as they are on disk, where the repository's
own pages follow them; here they are turned to the place of the same file on the site.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
PAGES += ("configs/README.md", "configs/*/README.md")
"""Pages outside docs/ that are pages of the site."""
ALL_CONFIGS = "configs/all.md"

LINK = re.compile(r"(?<=\]\()(?!https?://|#|mailto:)([^)#\s]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^( *)```.*?^\1```", re.S | re.M)
ROLE = re.compile(r":(?:attr|class|exc|func|meth|mod):<code>([^<]+)</code>")
LITERAL = re.compile(r"::</p>")
METRICS = ("box AP", "mask AP", "mIoU", "mIoU(ms+flip)")
TASKS = {
    "Object Detection": ("retinanet",),
    "Instance Segmentation": ("mask-rcnn", "cascade-mask-rcnn"),
    "Semantic Segmentation": ("semantic-fpn", "upernet"),
}
"""Tasks and the heads, with which the names of configs begin."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, every file that a page links to, and the table of configs."""
    files.append(File.generated(config, ALL_CONFIGS, content=table_of_configs()))
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, content=path.read_text(encoding="utf-8")))
    home = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=home))
    known = {file.src_uri for file in files}
    for file in list(files.documentation_pages()):
        for target in linked_files(file.content_string, repository_path(file.src_uri)):
            if target not in known and (ROOT / target).is_file() and not in_docs(target):
                known.add(target)
                data = (ROOT / target).read_bytes()
                files.append(File.generated(config, target, content=data))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to where the site has what they point at."""
    source = repository_path(page.file.src_uri)

    def turned(match: re.Match) -> str:
        target, anchor = resolved(match[1], source), match[2] or ""
        place = site_path(target)
        folder = posixpath.dirname(page.file.src_uri) or "."
        return posixpath.relpath(place, folder) + anchor

    pieces, end = [], 0
    for fence in FENCE.finditer(markdown):
        pieces += [LINK.sub(turned, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, LINK.sub(turned, markdown[end:])])


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the roles in docstrings into links where the reference has what they name."""
    return LITERAL.sub(":</p>", ROLE.sub(_reference, html))


def _reference(role: re.Match) -> str:
    name = role[1]
    shown = f"<code>{name.removeprefix('~').rpartition('.')[2]}</code>"
    return f'<autoref identifier="{name.removeprefix("~")}" optional>{shown}</autoref>'


def repository_path(page: str) -> str:
    """Where the source of a page lies in the repository."""
    if page == "index.md":
        return "README.md"
    outside = any(Path(page).match(pattern) for pattern in (*PAGES, ALL_CONFIGS))
    return page if outside else f"docs/{page}"


def in_docs(target: str) -> bool:
    """Whether MkDocs finds a file by itself."""
    return target.startswith("docs/")


def site_path(target: str) -> str:
    """Where the site has a file or a folder of the repository."""
    if in_docs(target):
        return target.removeprefix("docs/")
    if target == "README.md":
        return "index.md"
    if (ROOT / target).is_dir():
        return f"{target}/README.md"
    return target


def resolved(link: str, source: str) -> str:
    """The path in the repository that a link of a page points at."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def linked_files(text: str, source: str) -> Iterator[str]:
    """Paths in the repository that a page links to."""
    for match in LINK.finditer(FENCE.sub("", text)):
        yield resolved(match[1], source)


def table_of_configs() -> str:
    """One page with a table for each task, a row for each config in the metafiles."""
    models = [model for path in sorted(ROOT.glob("configs/*/metafile.yml")) for model in read(path)]
    if not models:
        raise PluginError("configs/*/metafile.yml name no model: the table would be empty")
    lines = [
        "# All configs",
        "",
        "Made from the metafiles beside the configs when this site was built. Parameters and MACs "
        "are counted from the configs, MACs for one image of the given size. AP and mIoU are the "
        "published ones, not ours; `-` where nothing was published.",
    ]
    heads = {head for names in TASKS.values() for head in names}
    if unknown := {head_of(model) for model in models} - heads:
        raise PluginError(f"{', '.join(sorted(unknown))}: heads of no task in {__file__}")
    for task, names in TASKS.items():
        rows = [model for model in models if head_of(model) in names]
        used = [name for name in METRICS if any(name in metrics(model) for model in rows)]
        lines += ["", f"## {task}", "", row("config", "image", "params, M", "MACs, G", *used)]
        lines.append(row("---", "---", *["---:"] * (2 + len(used))))
        for model in rows:
            facts, found = model["Metadata"], metrics(model)
            link = f"[{model['Name']}]({posixpath.relpath(model['Config'], 'configs')})"
            count, macs = f"{facts['Parameters'] / 1e6:.2f}", f"{facts['MACs (G)']:.2f}"
            figures = [found.get(name, "-") for name in used]
            lines.append(row(link, facts["Image Size"], count, macs, *figures))
    return "\n".join(lines) + "\n"


def read(metafile: Path) -> list[dict[str, Any]]:
    """The models of a metafile."""
    return yaml.safe_load(metafile.read_text(encoding="utf-8"))["Models"]


def metrics(model: dict[str, Any]) -> dict[str, float]:
    """All metrics of a model, of whichever task."""
    return {k: v for result in model.get("Results", ()) for k, v in result["Metrics"].items()}


def head_of(model: dict[str, Any]) -> str:
    """The head of a config, the first part of its name."""
    return model["Name"].partition("_")[0]


def row(*cells: object) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"
