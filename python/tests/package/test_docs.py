"""The examples in the pages run, and give what their comments say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# A page, and the places of its blocks of Python that run with what is in the repository, one after the other.
PAGES = {"README.md": [0], "docs/python.md": [0, 2]}


def said(comment: str) -> tuple[bool, object]:
    """Whether a comment is a value, and which."""
    try:
        return True, ast.literal_eval(comment.strip())
    except (SyntaxError, ValueError):
        return False, None


def run(block: str, names: dict[str, object]) -> int:
    """Runs a block; how many comments were held to what stands before them."""
    exec(compile(block, "block", "exec"), names)
    num_held = 0
    for line in block.splitlines():
        code, _, comment = line.partition("  #")
        is_value, value = said(comment)
        if is_value and comment:
            assert eval(code.strip(), names) == value, line
            num_held += 1
    return num_held


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    num_held = sum(run(blocks[place], names) for place in PAGES[page])
    assert num_held == {"README.md": 0, "docs/python.md": 2}[page]


def test_a_wrong_comment_is_found() -> None:
    assert run("a = 1\na + 1  # 2\na  # text\n", {}) == 1
    with pytest.raises(AssertionError):
        run("a = 1\na  # 2\n", {})
