"""RESULTS.md: one section for each benchmark, written by its run; the others stay as they are."""

import re
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"
_HEAD = "# Results\n\nWritten by the runs; ratios are what counts, the rest depends on the machine.\n"


def write_section(page: Path, title: str, text: str) -> None:
    """Put a section in place of the one with the same title, or at the end."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    sections = {found.partition("\n")[0]: found for found in re.split(r"^## ", old, flags=re.MULTILINE)[1:]}
    sections[title] = f"{title}\n\n{text.strip()}\n"
    body = "".join(f"\n## {section.strip()}\n" for section in sections.values())
    page.write_text(_HEAD + body, encoding="utf-8")


def words_given() -> str:
    """The command line's options that another run needs for the same, without where the page goes."""
    words = sys.argv[1:]
    if "--out" in words:
        at = words.index("--out")
        del words[at : at + 2]
    return " ".join(words)
