"""Pages a second of the PDF source, one document at a time in its sandbox, beside pypdf alone.

    python benchmarks/data_pdf.py [--folder PDFS] [--documents 200] [--pages 12] [--turns 3]

Without a folder of PDFs it makes some: text in columns of 55 lines. All read the same files; ours
out of a ZIP of them. `bare pypdfium2` is our reader without archive, sandbox and rows: the floor.
Processor time is that of all processes. Each library is pinned, in an environment of its own.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.pdf_files import pdf

PINNED = ("pypdfium2==5.15.2", "pypdf==7.1.1")
PLACE = ROOT / ".windlass/peers"
WORDS = "the wind hauls a heavy load out of deep water while rope and drum hold"
MEASURED = """
import json, os, sys, time
from pathlib import Path
place = Path(sys.argv[1])
began, before = time.perf_counter(), os.times()
pages, characters, documents, failed = run(place)
after = os.times()
print(json.dumps({"pages": pages, "characters": characters, "documents": documents,
    "failed": failed, "seconds": time.perf_counter() - began,
    "processor": sum(after[:4]) - sum(before[:4])}))
"""
LOOP = """
def run(place):
    pages = characters = documents = failed = 0
    for path in sorted((place / "pdfs").rglob("*.pdf")):
        try:
            found = texts(path)
        except Exception:
            failed += 1
            continue
        documents, pages = documents + 1, pages + len(found)
        characters += sum(map(len, found))
    return pages, characters, documents, failed
"""
CONTENDERS = {
    "pypdf": """
import logging
import pypdf
logging.getLogger("pypdf").setLevel(logging.CRITICAL)
def texts(path):
    return [page.extract_text() for page in pypdf.PdfReader(path).pages]
"""
    + LOOP,
    "bare pypdfium2": """
import pypdfium2
def texts(path):
    document = pypdfium2.PdfDocument(path)
    found = []
    for page in document:
        textpage = page.get_textpage()
        found.append(textpage.get_text_bounded())
        textpage.close()
        page.close()
    document.close()
    return found
"""
    + LOOP,
    "Windlass": """
from remote.payload.data.engine import Context, source_of
from remote.payload.data.units import Given
def run(place):
    work = place / "work"
    work.mkdir()
    context = Context(place, work, {"limits": {"workers": 1}})
    source = source_of({"type": "archives", "path": str(place / "all.zip")}, context)
    pages = characters = documents = 0
    refused = set()
    for unit in source.units():
        for found in source.read(unit):
            if isinstance(found, Given):
                documents += 1
                pages += found.row.text.count("\\f") + 1
                characters += len(found.row.text)
            elif found.is_bad:
                refused.add(found.origin.file)
    return pages, characters, documents, len(refused)
""",
}


def main() -> None:
    """Make the files, let each read them in turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--pages", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    python = _environment()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _files(place, options)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
        for _ in range(options.turns):
            for name, program in CONTENDERS.items():
                shutil.rmtree(place / "work", ignore_errors=True)
                found[name].append(_measured(python, program, place))
    _print(found)


def _environment() -> Path:
    """The Python that has the pinned libraries."""
    folder = PLACE / "-".join(PINNED).replace("==", "-")
    python = folder / "bin/python"
    if not (folder / "whole").exists():
        print(f"installing {', '.join(PINNED)}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINNED]
        subprocess.run([python, *words], check=True, stdout=subprocess.DEVNULL)
        (folder / "whole").touch()
    return python


def _files(place: Path, options: argparse.Namespace) -> None:
    """The PDFs, plain and in a ZIP."""
    if options.folder:
        shutil.copytree(options.folder, place / "pdfs")
    else:
        (place / "pdfs").mkdir()
        words = [
            "the",
            "wind",
            "hauls",
            "a",
            "heavy",
            "load",
            "out",
            "of",
            "deep",
            "water",
            "while",
            "rope",
            "and",
            "drum",
            "hold",
        ]
        for number in range(options.documents):
            say = random.Random(number)
            pages = [
                [
                    "The annual report",
                    *(" ".join(say.choices(words, k=12)) for _ in range(44)),
                    str(page),
                ]
                for page in range(options.pages)
            ]
            (place / f"pdfs/{number:05}.pdf").write_bytes(pdf(*pages))
    with zipfile.ZipFile(place / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((place / "pdfs").rglob("*.pdf")):
            archive.write(path, path.relative_to(place / "pdfs"))


def _measured(python: Path, program: str, place: Path) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [python, "-c", program + MEASURED, place],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    told: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return told


def _print(found: dict[str, list[dict[str, float]]]) -> None:
    columns = "reader,documents,refused,pages,characters,pages/s,pages per CPU-s,against pypdf"
    print("| " + columns.replace(",", " | ") + " |\n" + "|---" * 8 + "|")
    base = 0.0
    for name, turns in found.items():
        told = turns[0]
        rate = statistics.median(each["pages"] / each["seconds"] for each in turns)
        busy = statistics.median(each["pages"] / each["processor"] for each in turns)
        base = base or busy
        print(
            f"| {name} | {told['documents']} | {told['failed']} | {told['pages']} |"
            f" {told['characters']:,} | {rate:.0f} | {busy:.0f} | {busy / base:.1f} × |"
        )
    load = os.getloadavg()[0]
    print(f"\nmedian of {len(turns)}; `against pypdf` by processor time; load {load:.1f}")


if __name__ == "__main__":
    main()
