"""The list of all files in the README, made of each file's own first sentence.

python -m tests.readme_tree        writes it anew; tests/test_package.py finds out when it is out of date
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- all files: python -m tests.readme_tree -->", "<!-- end of all files -->"
_LONGEST = 110  # characters of a remark


def main() -> None:
    """Write the list into the README."""
    path = ROOT / "README.md"
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{block()}{after}")


def block() -> str:
    """The list with its markers."""
    return f"{BEGIN}\n```\n{tree()}\n```\n{END}"


def tree() -> str:
    """One line per file of the package, with a remark; files of one name in several languages share a line."""
    package = ROOT / "sam2kit"
    lines = ["sam2kit/", *_lines(package)]
    for folder in sorted(p for p in package.iterdir() if p.is_dir() and any(p.glob("*.py"))):
        lines += [f"  {folder.name}/", *_lines(folder, "  ")]
    return "\n".join(lines)


def _lines(folder: Path, indent: str = "") -> list[str]:
    files = sorted(p for p in folder.glob("*.py") if p.name not in ("__init__.py", "__main__.py"))
    width = max((len(p.name) for p in files), default=0) + 2
    return [f"{indent}  {p.name:<{width}}{_remark(p)}".rstrip() for p in files]


def _remark(file: Path) -> str:
    """The first sentence of a file's docstring."""
    sentence = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")[0].replace("\n", " ")
    sentence = sentence.split(". ")[0].rstrip(".")
    if len(sentence) <= _LONGEST:
        return sentence
    return sentence[:_LONGEST].rsplit(" ", 1)[0].rstrip(",;:") + " …"


if __name__ == "__main__":
    main()
