"""The text of one PDF, page by page: by PDFium, or pypdf where that gives up. Runs in a worker of
`pool`, since either may crash, hang or eat memory. Needs pypdfium2 and pypdf; tesseract to read
scans.

Pages are joined by form feeds, so that page n is `text.split("\\f")[n - 1]`, empty ones included.
"""

import contextlib
import ctypes
import logging
import math
import mmap
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

PAGE_BREAK = "\f"
MAX_PAGES = 50_000
_FEW = 16
"""A page with fewer letters than this and a large image is a scan."""
_SCAN_SHARE = 0.4
"""Of the page, by all its images."""
_EDGE_LINES = 3
"""So many lines at the top and bottom of a page may be headers and footers; of a short page fewer,
down to one, or what it says would be taken for them."""
_REPEATED_SHARE = 0.4
"""Of the pages, on which a line is that repeats: one of left pages alone is on half of them."""
_DOTS_PER_INCH = 300
_MAX_PIXELS = 40_000_000
_HYPHEN = "\ufffe"
"""What PDFium writes for a hyphen at the end of a line; the line's end is left out there."""
_HEADER_WITHIN = 1024
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\uffff]")
_NO_LETTERS = re.compile(r"[\W_]+")
_PASSWORD = "is encrypted: it needs a password"  # noqa: S105 - a sentence


def text_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """The pages of the PDF at `path`: `pages` as texts, the numbers (from 1) of `scanned` ones and
    of `broken` ones, and which `reader` read it; or `refusal`. `reader` in the task asks for that
    one alone."""
    with open(task["path"], "rb") as file:
        if b"%PDF-" not in file.read(_HEADER_WITHIN):
            return {"refusal": "has no PDF header"}
    try:
        return (_by_pypdf if task.get("reader") == "pypdf" else _by_either)(task["path"])
    except _Refused as refused:
        return {"refusal": str(refused)}


class _Refused(Exception):
    """A PDF that no other reader should try."""


def _by_either(path: str) -> dict[str, Any]:
    try:
        return _mended(_by_pdfium(path), path)
    except RuntimeError as error:  # PDFium's
        found = _by_pypdf(path)
        if "refusal" in found:
            found["refusal"] = f"is damaged: {error} {found['refusal']}"
        return found


def _by_pdfium(path: str) -> dict[str, Any]:
    pdfium = _pdfium()
    try:
        document = _opened(path)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) == pdfium.raw.FPDF_ERR_PASSWORD:
            raise _Refused(_PASSWORD) from None
        raise
    with contextlib.closing(document):
        count = len(document)
        _check_pages(count)
        pages: list[str] = []
        scanned, broken = [], []
        for number in range(1, count + 1):
            try:
                text, is_scan = _page(document, number)
            except pdfium.PdfiumError:
                text, is_scan = "", False
                broken.append(number)
            pages.append(text)
            if is_scan:
                scanned.append(number)
    if len(broken) == count:
        raise RuntimeError("No page can be loaded.")
    return {"pages": pages, "scanned": scanned, "broken": broken, "reader": "pdfium"}


def _mended(found: dict[str, Any], path: str) -> dict[str, Any]:
    """With those pages by pypdf that PDFium could not load."""
    others = _by_pypdf(path).get("pages", []) if found["broken"] else []
    if len(others) == len(found["pages"]):
        found["pages"] = [page or other for page, other in zip(found["pages"], others, strict=True)]
        found["broken"] = [number for number in found["broken"] if not others[number - 1]]
    return found


def _pdfium() -> Any:
    import pypdfium2

    return pypdfium2


def _opened(path: str) -> Any:
    """The document, mapped: its file may have no name, and pypdfium2 would look for one."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return _pdfium().PdfDocument((ctypes.c_char * len(mapped)).from_buffer(mapped))


def _check_pages(count: int) -> None:
    if count > MAX_PAGES:
        raise _Refused(f"has {count:,} pages; at most {MAX_PAGES:,} are read")


def _page(document: Any, number: int) -> tuple[str, bool]:
    """A page's text, and whether it is a scan."""
    page = document[number - 1]
    try:
        textpage = page.get_textpage()
        try:
            text = cleaned(textpage.get_text_bounded())
        finally:
            textpage.close()
        return text, _is_scan(page, text)
    finally:
        page.close()


def _is_scan(page: Any, text: str) -> bool:
    """Whether there is hardly any text, and images take much of the page."""
    if len(_NO_LETTERS.sub("", text[:1000])) >= _FEW:
        return False
    image = _pdfium().raw.FPDF_PAGEOBJ_IMAGE
    width, height = page.get_size()
    covered = 0.0
    for found in page.get_objects(filter=[image], max_depth=3):
        left, bottom, right, top = found.get_bounds()
        covered += max(0.0, right - left) * max(0.0, top - bottom)
        if covered >= _SCAN_SHARE * width * height:
            return True
    return False


def _by_pypdf(path: str) -> dict[str, Any]:
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    pages: list[str] = []
    broken = []
    try:
        with open(path, "rb") as file, pypdf.PdfReader(file) as reader:
            if reader.is_encrypted and not reader.decrypt(""):
                return {"refusal": _PASSWORD}
            _check_pages(len(reader.pages))
            for number in range(1, len(reader.pages) + 1):
                try:
                    pages.append(cleaned(reader.pages[number - 1].extract_text()))
                except Exception:  # whatever pypdf throws at a hostile page
                    pages.append("")
                    broken.append(number)
    except (MemoryError, _Refused):
        raise
    except Exception as error:  # whatever pypdf throws at a hostile document
        return {"refusal": f"{type(error).__name__}: {error}"[:500]}
    if len(broken) == len(pages):
        return {"refusal": "no page can be read"}
    return {"pages": pages, "scanned": [], "broken": broken, "reader": "pypdf"}


def cleaned(text: str) -> str:
    """A page's text with plain line ends, without what is no text."""
    text = text.replace(_HYPHEN, "-\n").replace("\r\n", "\n").replace("\r", "\n")
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    lines = _NO_TEXT.sub("", text).split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def joined(pages: Iterable[str]) -> str:
    """The document's text, without the headers and footers that repeat."""
    return PAGE_BREAK.join(without_repeated(list(pages)))


def without_repeated(pages: list[str]) -> list[str]:
    """The pages without the lines at their tops and bottoms that are on many of them: the same, or
    the same but for a number that counts along with the pages."""
    lines = [page.split("\n") for page in pages]
    seen: Counter[tuple[str, int]] = Counter()
    for number, page in enumerate(lines):
        seen.update({key for at in _edges(page) for key in _keys(page[at], number)})
    least = max(3, math.ceil(_REPEATED_SHARE * sum(1 for page in pages if page.strip())))
    repeated = {key for key, count in seen.items() if count >= least}
    if not repeated:
        return pages
    return [
        "\n".join(_kept(page, number, repeated)).strip("\n") for number, page in enumerate(lines)
    ]


def _kept(page: list[str], number: int, repeated: set[tuple[str, int]]) -> Iterator[str]:
    edges = _edges(page)
    for at, line in enumerate(page):
        if at not in edges or repeated.isdisjoint(_keys(line, number)):
            yield line


def _edges(page: list[str]) -> set[int]:
    """Where the first and last lines are that say something."""
    filled = [at for at, line in enumerate(page) if line.strip()]
    count = max(1, min(_EDGE_LINES, len(filled) // 4))
    return {*filled[:count], *filled[-count:]}


def _keys(line: str, number: int) -> Iterator[tuple[str, int]]:
    """The same for lines that say the same, or the same but for a number that counts the pages."""
    said = " ".join(line.split())
    yield said, -1
    for found in re.finditer(r"(?<!\d)\d{1,6}(?!\d)", said):
        yield f"{said[: found.start()]}\0{said[found.end() :]}", int(found[0]) - number


def text_of_scan(task: Mapping[str, Any]) -> str:
    """What Tesseract reads on `page` (from 1) of the PDF at `path`, in `languages` as it names
    them. Raises ValueError where it fails."""
    picture = _picture(task["path"], int(task["page"]))
    words = ["tesseract", "stdin", "stdout", "-l", task["languages"], "--dpi", str(_DOTS_PER_INCH)]
    ended = subprocess.run(words, input=picture, capture_output=True, check=False)
    if ended.returncode:
        told = ended.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(f"tesseract failed: {told[-1] if told else ended.returncode}")
    return cleaned(ended.stdout.decode("utf-8", "replace"))


def _picture(path: str, number: int) -> bytes:
    """A page in grey, as a PGM file."""
    with contextlib.closing(_opened(path)) as document:
        page = document[number - 1]
        width, height = page.get_size()
        scale = min(_DOTS_PER_INCH / 72, math.sqrt(_MAX_PIXELS / max(1.0, width * height)))
        bitmap = page.render(scale=scale, grayscale=True)
        rows = memoryview(bytes(bitmap.buffer))
        head = b"P5 %d %d 255\n" % (bitmap.width, bitmap.height)
        size, stride = bitmap.width, bitmap.stride
        return head + b"".join(
            rows[at * stride : at * stride + size] for at in range(bitmap.height)
        )
