#!/usr/bin/env python3
"""Draws docs/classify.svg: what `sttabt classify` prints of a text, with a line for each layer that appears in turn.

    sttabt classify --backend cpu "a text" | python3 docs/classify.py "a text" > docs/classify.svg

Where nothing moves (no CSS, or a reader who asked for less motion) all lines are there.
"""

import re
import sys
from html import escape

LETTER, LINE, LEFT, TOP = 8.4, 19, 16.0, 30
FIRST, STEP, PERIOD = 0.8, 0.6, 14.0  # seconds: before the first layer, between layers, and of a turn

STYLE = """text { font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d6d6d6 }
.b { font-weight: bold; fill: #fff } .f { fill: #7a7a7a } .l { fill: #5fb3c9 } .c { fill: #e8c674 }
@media (prefers-reduced-motion: no-preference) { g { animation: %gs linear infinite } }
""" % PERIOD


def words(line: str, row: int, kind: str = "") -> str:
    """One element for each word, so that the columns stand whatever the font is."""
    parts = []
    for word in re.finditer(r"\S+", line):
        text = word.group()
        css = "f" if set(text) == {"·"} else kind
        css = f' class="{css}"' if css else ""
        x, y = LEFT + LETTER * word.start(), TOP + LINE * row
        parts.append(f'<text x="{x:.1f}" y="{y}"{css} textLength="{LETTER * len(text):.1f}">{escape(text)}</text>')
    return "\n".join(parts)


def main() -> None:
    command = ["$ cargo run --release -- classify \\", f'      "{sys.argv[1]}"', ""]
    printed = sys.stdin.read().rstrip("\n").split("\n")
    lines = command + printed
    rules, body, shown = [], [], 0
    for row, line in enumerate(lines):
        label = re.match(r"text|L\d+|head", line)
        if row < len(command) or not line.strip():
            body.append(words(line, row, "c"))
            continue
        # The answer: the label and its share are bold, what it took is not.
        bold = re.match(r"\S.*? %(?=   )|", line).end()
        drawn = [words(line[:bold], row, "b"), words(" " * bold + line[bold:], row)]
        if label:
            # A layer's kept tokens are bold.
            count = re.match(r"\S+\s+(\d+/\d+)?", line).end()
            tokens = words(" " * count + line[count:], row, "" if label.group() == "text" else "b")
            drawn = [words(label.group(), row, "l"), words(" " * label.end() + line[label.end() : count], row), tokens]
        drawn = "\n".join(filter(None, drawn))
        if label and label.group() == "text":
            body.append(drawn)
            continue
        start = 100 * (FIRST + STEP * shown) / PERIOD
        rules.append(f"@keyframes r{shown} {{ 0%, {start:.1f}% {{ opacity: 0 }} {start + 3:.1f}%, 100% {{ opacity: 1 }} }}")
        rules.append(f"#r{shown} {{ animation-name: r{shown} }}")
        body.append(f'<g id="r{shown}">\n{drawn}\n</g>')
        shown += 1
    width = round(2 * LEFT + LETTER * max(map(len, lines)))
    height = TOP + LINE * (len(lines) - 1) + 20
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">')
    print("<title>sttabt classify: the sentence once per layer, removed tokens as dots</title>")
    print(f"<style>{STYLE}" + "\n".join(rules) + "</style>")
    print(f'<rect width="{width}" height="{height}" rx="8" fill="#1e1e1e"/>')
    print("\n".join(part for part in body if part))
    print("</svg>")


main()
