"""Words that are retired: they make a reader guess which process or thread is meant, or are no words of the field.

None may stand in the pages, nor in what a user sees of the package: the texts of exceptions and of the log. In all
other sources, tests and benchmarks included, each file has a debt, which may only shrink: this file, run as a program,
writes the table of debts anew, and refuses to if the sum would grow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = next(parent for parent in Path(__file__).parents if (parent / "pyproject.toml").exists())

RETIRED = {
    "who": "name the process or thread",
    "whom": "name the process or thread",
    "whoever": "the thread that",
    "nobody": "no worker, no thread",
    "somebody": "another thread",
    "anybody": "any thread",
    "everybody": "all workers, all threads",
    "he": "it",
    "him": "it",
    "his": "its",
    "for want of": "out of, without",
    "in the midst": "during",
    "so many": "that many, no more than",
    "to be had": "available",
    "burial": "recovery",
    "burials": "recovery",
    "bury": "recover",
    "buries": "recovers",
    "buried": "recovered",
    "funeral": "recovery",
    "funerals": "recovery",
}
# Also as a part of an identifier.
WORDS = re.compile(
    "(?<![a-z])(?:" + "|".join(word.replace(" ", "[ _]") for word in RETIRED) + ")(?![a-z])", re.IGNORECASE
)

FREE_OF_THEM = ["*.md", "docs/**/*.md"]
SOURCES = ["src/ringpool/**/*.py", "src/ringpool/**/*.py[xi]", "src/ringpool/**/*.pxd", "benchmarks/**/*.py"]
IN_DEBT = ["csrc/*.[ch]", *SOURCES, "tests/**/*.py", "tests/native/*.[ch]", "tests/model/*.pml", "tests/support/*.c"]

# Retired words in each file: comments, docstrings and names.
# debts: begin
DEBTS: dict[str, int] = {}
# debts: end


def files(patterns: list[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)})


def prose(page: str) -> str:
    """Returns a page without its code. Line numbers stay."""
    blank = lambda match: "\n" * match[0].count("\n")  # noqa: E731
    return re.sub(r"`[^`\n]+`", "", re.sub(r"^```.*?^```", blank, page, flags=re.MULTILINE | re.DOTALL))


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Yields the strings of a Python or Cython file but its docstrings, with their lines."""
    blank = lambda match: "\n" * match[0].count("\n")  # noqa: E731
    source = re.sub(r'"""(.*?)"""', blank, source, flags=re.DOTALL)
    for match in re.finditer(r'#[^\n]*|"((?:[^"\\\n]|\\.)*)"', source):
        if match[1]:
            yield source.count("\n", 0, match.start()) + 1, match[1]


def explained(path: Path, line: int, text: str) -> str:
    found = dict.fromkeys(word.lower().replace("_", " ") for word in WORDS.findall(text))
    said = ", ".join(f"{word!r} ({RETIRED[word]})" for word in found)
    return f"{path.relative_to(ROOT)}:{line}: {said}: {text.strip()}"


def debts() -> dict[str, int]:
    """Returns how many retired words each file has that has any, but for this one, which lists them."""
    paths = [path for path in files(IN_DEBT) if path != Path(__file__)]
    counted = {str(path.relative_to(ROOT)): len(WORDS.findall(path.read_text())) for path in paths}
    return {name: count for name, count in counted.items() if count}


@pytest.mark.parametrize("page", files(FREE_OF_THEM), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_uses_a_retired_word(page):
    lines = prose(page.read_text()).splitlines()
    assert not [explained(page, number, line) for number, line in enumerate(lines, 1) if WORDS.search(line)]


def test_no_message_of_the_package_uses_a_retired_word():
    found = [
        explained(path, line, text)
        for path in files(["src/ringpool/**/*.py", "src/ringpool/**/*.pyx"])
        for line, text in messages(path.read_text())
        if WORDS.search(text)
    ]
    assert not found


def test_no_file_has_more_retired_words_than_its_debt():
    grown = {name: (count, DEBTS.get(name, 0)) for name, count in debts().items() if count > DEBTS.get(name, 0)}
    for name in grown:
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            if WORDS.search(line):
                print(explained(ROOT / name, number, line))
    assert not grown, "python tests/docs/test_language.py writes the table anew, if the sum has not grown: (now, debt)"


def test_words_within_words_and_names_of_code_do_not_count():
    assert not WORDS.search(prose("The whole of it, the other, as `nobody` has it.\n```c\nint who;\n```\n"))
    assert WORDS.findall("Nobody, and for want of it somebody: he") == ["Nobody", "for want of", "somebody", "he"]


def test_parts_of_an_identifier_count():
    assert WORDS.findall("RINGS_NOBODY + test_in_the_midst_of(who, whole)") == ["NOBODY", "in_the_midst", "who"]


def test_messages_are_strings_that_are_neither_docstrings_nor_comments():
    source = 'def f():\n    """Doc "x"."""\n    raise E("a", f"b {c}")  # "d"\n'
    assert list(messages(source)) == [(3, "a"), (3, "b {c}")]


if __name__ == "__main__":
    table = debts()
    before, after = sum(DEBTS.values()), sum(table.values())
    if DEBTS and after > before:
        raise SystemExit(f"{after} retired words, {before} before: a debt may only shrink")
    lines = "".join(f'\n    "{name}": {count},' for name, count in sorted(table.items()))
    lines += "\n" if lines else ""
    text = Path(__file__).read_text()
    begin, end = "# debts: begin\n", "# debts: end\n"
    head, tail = text.split(begin, 1)[0], text.split("\n" + end, 1)[1]
    Path(__file__).write_text(f"{head}{begin}DEBTS: dict[str, int] = {{{lines}}}\n{end}{tail}")
    print(f"{before} before, {after} now")
