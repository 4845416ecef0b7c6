"""The documentation is true as far as a test can tell: links lead somewhere, and named files and functions exist.

Run as a program, this corrects the links of the walkthroughs to functions that have moved to one other file.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import pytest

ROOT = next(parent for parent in Path(__file__).parents if (parent / "pyproject.toml").exists())
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
WALKTHROUGHS = ROOT / "docs/walkthroughs.md"
GLOSSARY = ROOT / "docs/glossary.md"

# [`file: function`](path of the file)
STEP = re.compile(r"\[`([\w./]+): (\w+)`\]\(([^)]+)\)")


def source_files(*suffixes: str) -> list[Path]:
    """Returns the sources of the package and of the protocols; not what a build has made of them."""
    found = [path for folder in ("src/ringpool", "csrc") for path in (ROOT / folder).rglob("*")]
    return sorted(path for path in found if path.suffix in suffixes and path.name != "_core.c")


def defines(path: Path, name: str) -> bool:
    """Returns whether the file has a definition of that function, not only a declaration or a call."""
    text = path.read_text()
    if path.suffix in {".c", ".h"}:
        return (
            re.search(rf"^[a-z_](?:\w|[ *])*\(?\b{name}\)?\((?:[^;{{]|\n)*\)\s*\n?{{", text, re.MULTILINE) is not None
        )
    return re.search(rf"^\s*(?:async\s+)?(?:c|cp)?def\s[^=\n#(]*\b{name}\(", text, re.MULTILINE) is not None


@functools.cache
def files_that_define(name: str) -> list[Path]:
    return [path for path in source_files(".py", ".pyx", ".c", ".h") if defines(path, name)]


def anchors(text: str) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page):
    lost = []
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists():
            lost.append(f"{target}: there is no such file")
        elif anchor and anchor not in anchors(path.read_text()):
            lost.append(f"{target}: the page has no such heading")
    assert not lost


def test_every_page_can_be_reached_from_the_readme():
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text()):
            ahead.append((page.parent / target).resolve())
    assert not [str(page.relative_to(ROOT)) for page in PAGES if page not in seen]


def test_every_decision_is_in_the_table_and_has_a_date():
    folder = ROOT / "docs/decisions"
    table = (folder / "README.md").read_text()
    pages = sorted(folder.glob("[0-9]*.md"))
    assert [int(page.name[:3]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        title, date = page.read_text().split("\n\n")[:2]
        assert title.startswith(f"# {page.name[:3]}: ") and date.startswith("Date: "), page.name
        assert f"| [{page.name[:3]}]({page.name}) | {title[7:]} | {date[6:]} |" in table, page.name


def test_every_function_of_the_walkthroughs_is_in_the_file_that_they_name():
    lost = []
    for label, name, target in STEP.findall(WALKTHROUGHS.read_text()):
        path = (WALKTHROUGHS.parent / target).resolve()
        if str(path).endswith(f"/{label}") and path.exists() and defines(path, name):
            continue
        elsewhere = ", ".join(str(path.relative_to(ROOT)) for path in files_that_define(name))
        lost.append(f"{label}: {name} is in {elsewhere or 'no file'}")
    assert not lost, "this file, run as a program, corrects what has moved:\n" + "\n".join(lost)


def test_the_walkthroughs_link_every_function_that_they_name():
    unlinked = re.findall(r"(?<!\[)`[\w./]+\.(?:pyx|py|c|h): \w+`", WALKTHROUGHS.read_text())
    assert not unlinked
    assert len(STEP.findall(WALKTHROUGHS.read_text())) > 50


def test_a_function_that_is_only_called_or_declared_does_not_count_as_defined(tmp_path):
    header, source, core = tmp_path / "x.h", tmp_path / "x.c", tmp_path / "x.pyx"
    header.write_text("void rp_x_publish(struct rp_x *x);\nint rp_x_wait(struct rp_x *x,\n              int n);\n")
    source.write_text("int rp_x_wait(struct rp_x *x,\n              int n)\n{\n    return rp_x_publish(x, n);\n}\n")
    core.write_text("cdef class X:\n    cdef void take(self, int n) noexcept:\n        self.put(n)  # def fill(\n")
    assert not defines(header, "rp_x_publish") and not defines(header, "rp_x_wait")
    assert defines(source, "rp_x_wait") and not defines(source, "rp_x_publish")
    assert defines(core, "take") and not defines(core, "put") and not defines(core, "fill")


def names_in_code(text: str) -> set[str]:
    """Returns what stands between backquotes, outside of blocks of code."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)))


@functools.cache
def names_of_all_files() -> set[str]:
    found = set()
    for _, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "build"]
        found.update(files)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_source_file_that_a_page_names_exists(page):
    known = names_of_all_files()
    for code in names_in_code(page.read_text()):
        if re.fullmatch(r"[\w/]+\.(?:py|pyx|pxd|c|h|pml)", code) and not code.startswith(("jobs.", "__main__")):
            assert (ROOT / code).exists() if "/" in code else code in known, code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_function_of_the_protocols_and_method_of_the_core_that_a_page_names_exists(page):
    sources = "\n".join(path.read_text() for path in source_files(".c", ".h"))
    for code in names_in_code(page.read_text()):
        if re.fullmatch(r"rp_\w+", code):
            assert re.search(rf"\b{code}\b", sources), code
        method = re.fullmatch(r"(Client|Supervisor|Worker|Batch)\.(\w+)", code)
        if method:
            assert files_that_define(method[2]), code


def test_every_shared_word_of_the_table_is_in_the_sources():
    page = (ROOT / "docs/architecture/shared-memory.md").read_text()
    words = re.findall(r"^\| (.*?) \|", page.split("## Shared words")[1], re.MULTILINE)
    named = [name for word in words for name in re.findall(r"`(\w+)`", word)]
    assert len(named) > 30
    sources = "\n".join(path.read_text() for path in source_files(".h", ".pyx", ".c"))
    assert not [name for name in named if not re.search(rf"\b{name}\b", sources)]


def glossary() -> list[tuple[str, list[str]]]:
    """Returns the rows of the glossary's tables: the word, and its names in C, in Cython and in Python."""
    rows = re.findall(r"^\| \*(.+?)\* \|(.*)\|$", GLOSSARY.read_text(), re.MULTILINE)
    return [(word, [cell.strip() for cell in cells.split("|")[1:]]) for word, cells in rows]


@pytest.mark.parametrize(
    ("column", "suffixes"),
    [(0, (".h", ".c")), (1, (".pyx", ".pxd")), (2, (".py", ".pyi"))],
    ids=["C", "Cython", "Python"],
)
def test_every_name_of_the_glossary_is_in_the_sources(column, suffixes):
    sources = "\n".join(path.read_text() for path in source_files(*suffixes))
    rows = glossary()
    assert len(rows) > 40
    lost = [
        f"{word}: {name}"
        for word, cells in rows
        for name in re.findall(r"`([^`]+)`", cells[column])
        if not re.search(rf"\b{re.escape(name.rpartition('.')[2])}\b", sources)
    ]
    assert not lost


def test_every_word_of_the_glossary_is_there_once():
    words = [word for word, _ in glossary()]
    assert sorted(words) == sorted(set(words))


def label_of(path: Path) -> str:
    """Returns the name by which a step calls a file: with its folder, where another file has that name too."""
    others = [other for other in source_files(".py", ".pyx", ".c", ".h") if other.name == path.name and other != path]
    return f"{path.parent.name}/{path.name}" if others else path.name


def correct(page: Path) -> None:
    """Writes the links of a page's steps anew, where the function has moved to one other file."""

    def corrected(step: re.Match[str]) -> str:
        path = (page.parent / step[3]).resolve()
        if path.exists() and defines(path, step[2]):
            return step[0]
        elsewhere = files_that_define(step[2])
        if len(elsewhere) != 1:
            found = ", ".join(str(path.relative_to(ROOT)) for path in elsewhere)
            print(f"{step[1]}: {step[2]} is in {found or 'no file'}: to be decided by hand")
            return step[0]
        return f"[`{label_of(elsewhere[0])}: {step[2]}`]({os.path.relpath(elsewhere[0], page.parent)})"

    page.write_text(STEP.sub(corrected, page.read_text()))


if __name__ == "__main__":
    correct(WALKTHROUGHS)
