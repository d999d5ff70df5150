"""PDFs, in archives or not, as documents: a file, or all below a folder or `s3://bucket/prefix/`.

Entry: `path`; `max_pdfs`, no more of which are read; `ocr: true` reads scanned pages by Tesseract,
in `languages` as it names them (`eng`, or `fra+eng`); `region` and `endpoint` of the store. Neither
archives nor what is in them need fit the disk, but for a ZIP in an archive.

A unit is a range of what lies in one archive. One that can only be read from its start on (a
packed tar) has few ranges, since each reads all before it again. Listing is kept, and done again
only for an archive that changed. Pages are parted by form feeds (`data.archive.pdf`).
"""

import bisect
import hashlib
import io
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from remote.contract.artifacts.rows import NotARow, Row, checked
from remote.contract.files import atomic, digest, regular_files, untrusted_json
from remote.contract.files.file_kind import FIRST_BYTES, kind_of
from remote.contract.job.jobs import Cause
from remote.payload.data.archive import pdf
from remote.payload.data.archive.members import Start
from remote.payload.data.archive.ranges import Range, ranges
from remote.payload.data.archive.safety import LIMITS, NotTheArchive, shown
from remote.payload.data.archive.walk import SUFFIXES, Item, Walk, copied, is_archive, is_stream
from remote.payload.data.engine import Context
from remote.payload.data.files import object_store
from remote.payload.data.files.object_store import Access, ObjectLost, StoredObject
from remote.payload.data.parts import key_of
from remote.payload.data.pool import Failure, Pool
from remote.payload.data.units import Given, Origin, Reject, Result, Unit
from remote.payload.job import StageFailed

_VERSION = 1
"""Of what a listing says."""
_DOCUMENT_SECONDS = 50
_TEXT_OF = "remote.payload.data.archive.pdf:text_of"
_CRASHED = ("SIGSEGV", "SIGBUS", "SIGFPE")
"""PDFium failed, and pypdf may not. Out of memory it ends with others, and what pypdf makes of such
a document depends on the machine."""
_LOOSE = 64
"""So many PDFs that lie in no archive are a unit, about."""
SCANNED = "scanned pages"
"""The step under which scanned pages are counted that were not read."""


@dataclass(frozen=True)
class Held:
    """A file or object. `name` is relative to the source's path; `stored` is set for an object."""

    name: str
    path: str = ""
    stored: StoredObject | None = None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Held":
        """Out of plain JSON."""
        stored = StoredObject(**told["stored"]) if told["stored"] else None
        return cls(told["name"], told["path"], stored)

    @property
    def mark(self) -> list[Any]:
        """Changes when the file does, without a look into it."""
        if self.stored:
            return [str(self.stored), self.stored.size, self.stored.etag]
        told = Path(self.path).stat()
        return [self.path, told.st_size, told.st_mtime_ns, told.st_ino]

    def refuse_changed(self, mark: list[Any]) -> None:
        """Raise ObjectLost for a file that is another than was listed; an object tells by
        itself."""
        try:
            is_same = self.mark == mark
        except OSError as error:
            raise ObjectLost(f"{self.name} vanished after it was listed: {error}") from None
        if not is_same:
            raise ObjectLost(f"{self.name} changed after it was listed")

    def identity(self) -> str:
        """The same for the same content: the size with the ETag, or with the SHA-256."""
        if self.stored:
            return f"{self.stored.size}-{self.stored.etag}"
        return f"{self.size}-{digest.of_file(Path(self.path))}"

    @property
    def size(self) -> int:
        """In bytes."""
        return self.stored.size if self.stored else Path(self.path).stat().st_size

    def opened(self, access: Access) -> io.BufferedReader:
        """Open for reading, anywhere."""
        if self.stored:
            return object_store.opened(self.stored, access)
        return regular_files.opened(self.path)


@dataclass(frozen=True)
class Archives:
    """Ranges of archives as units."""

    entry: Mapping[str, Any]
    context: Context

    def units(self) -> Iterator[Unit]:
        """What there is to read, `max_pdfs` documents at most. Raises StageFailed where there is
        none, or a scan could not be read."""
        self._check_tesseract()
        held = list(self._held())
        if not held:
            raise StageFailed(
                Cause.DATA,
                f"no archive and no PDF in {self.entry['path']}",
                f"endings that are read: .pdf, {', '.join(SUFFIXES)}",
                "correct `path` in the recipe, or put some there",
            )
        for unit in _capped(self._all_units(held), int(self.entry.get("max_pdfs") or 0)):
            yield replace(unit, digest=digest.of_value([unit.digest, self._patience]))

    def read(self, unit: Unit) -> Iterator[Result]:
        """The documents of a unit. Raises ObjectLost where the archive changed, or vanished."""
        seconds = float(self.context.limits.get("document_seconds") or _DOCUMENT_SECONDS)
        left = unit.what.get("most", -1)
        with self.context.pool(seconds, workers=1) as pool:
            for name, item in self._items(unit):
                if left == 0:
                    break
                origin = Origin(name)
                if item.opened is None:
                    yield Reject(item.refusal, origin, "read", is_bad=item.is_bad)
                    continue
                yield from self._document(pool, item, origin)
                left -= 1
        if unit.what.get("is_more"):
            why = f"`max_pdfs` ({self.entry['max_pdfs']}) are read: what follows is not"
            yield Reject(why, Origin(unit.id), "max_pdfs", is_bad=False)

    # What there is.

    def _held(self) -> Iterator[Held]:
        path = str(self.entry["path"])
        if object_store.is_address(path):
            for name, stored in object_store.listed(path, self._access):
                if _is_wanted(name):
                    yield Held(shown(name), stored=stored)
            return
        root = self.context.root / Path(path).expanduser()
        if root.is_file():
            yield Held(shown(root.name), str(root))
            return
        for found in sorted(root.rglob("*"), key=lambda each: each.as_posix()):
            if found.is_file() and _is_wanted(found.name):
                yield Held(shown(found.relative_to(root).as_posix()), str(found))

    def _all_units(self, held: list[Held]) -> Iterator[tuple[Unit, int]]:
        """All units in the order of their ids, with how many documents each has."""
        archives = [each for each in held if not _is_loose(each.name)]
        found = [_loose_unit(each) for each in _bundles([h for h in held if _is_loose(h.name)])]
        # Ids of loose ones begin with a space: before all others, as the engine sorts them.
        yield from sorted(found, key=lambda each: each[0].id)
        for each, listing in self._listings(sorted(archives, key=lambda each: each.name)):
            yield from _archive_units(each, listing, bool(self.entry.get("ocr")))

    def _listings(self, held: list[Held]) -> Iterator[tuple[Held, Mapping[str, Any]]]:
        """What lies in each archive: as it was kept, else found by worker processes."""
        tasks = [
            {"held": asdict(each), "access": asdict(self._access), "context": self.context.plain()}
            for each in held
        ]
        function = "remote.payload.data.sources.archives:listing_of"
        if all(kept_listing(self.context, each) for each in held):
            for each, task in zip(held, tasks, strict=True):
                yield each, listing_of(task)
            return
        with self.context.pool() as pool:
            for each, (_, answer) in zip(held, pool.map(function, tasks), strict=True):
                is_lost = isinstance(answer, Failure)
                listing = {"identity": "", "lost": answer.why} if is_lost else answer
                told = listing.get("lost") or f"{listing['items']} members"
                print(f"listed {each.name}: {told}", flush=True)
                yield each, listing

    def _check_tesseract(self) -> None:
        if not self.entry.get("ocr"):
            return
        wanted = self._languages.split("+")
        there = []
        if shutil.which("tesseract"):
            told = subprocess.run(
                ["tesseract", "--list-langs"], capture_output=True, text=True, check=False
            )
            there = told.stdout.split()
        if missing := [each for each in wanted if each not in there]:
            packages = " ".join(f"tesseract-ocr-{each.replace('_', '-')}" for each in missing)
            raise StageFailed(
                Cause.DATA,
                f"`ocr: true` needs Tesseract with {', '.join(missing)}",
                "it is not installed on this machine",
                f"`sudo apt-get install tesseract-ocr {packages}`, then `./inv resume`",
            )

    # What is in a unit.

    def _items(self, unit: Unit) -> Iterator[tuple[str, Item]]:
        """The items of a unit, each with its name for people."""
        if lost := unit.what.get("lost"):
            yield unit.what["name"], Item(0, Start(), "", refusal=lost)
            return
        for told, mark in unit.what.get("loose", ()):
            held = Held.of(told)
            held.refuse_changed(mark)
            most = LIMITS.document_bytes
            yield (held.name, Item(0, Start(), held.name, most=most, opened=self._opener(held)))
        if "range" not in unit.what:
            return
        held, within = Held.of(unit.what["held"]), Range(**unit.what["range"])
        held.refuse_changed(unit.what["mark"])
        with held.opened(self._access) as file:
            walk = Walk(LIMITS, self.context.folder, held.size)
            start = Start(within.index, within.offset)
            for item in walk.items(file, held.name, start, within.before):
                if item.number >= within.last:
                    return
                if item.number >= within.first:
                    yield f"{held.name}/{item.name}" if item.name else held.name, item

    def _opener(self, held: Held) -> Any:
        return lambda: held.opened(self._access)

    def _document(self, pool: Pool, item: Item, origin: Origin) -> Iterator[Result]:
        """What becomes of one PDF."""
        with tempfile.TemporaryFile(dir=self.context.folder) as file:
            try:
                copied(item, file)
            except (ObjectLost, NotTheArchive, MemoryError):
                raise
            except Exception as error:  # whatever a library throws at a hostile archive
                yield Reject(str(error) or type(error).__name__, origin, "read")
                return
            file.flush()
            if not file.tell():
                yield Reject("is empty", origin, "read")
                return
            group, lie = _looked_at(file, item.name)
            if lie:
                yield Reject(lie, origin, "read")
                return
            # By this process's descriptor: the file has no name, so that nothing is left of it.
            path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
            yield from self._read(pool, path, group, item.name, origin)

    def _read(
        self, pool: Pool, path: str, group: str, name: str, origin: Origin
    ) -> Iterator[Result]:
        found = pool.run(_TEXT_OF, {"path": path})
        if isinstance(found, Failure) and found.why.endswith(_CRASHED):
            again = pool.run(_TEXT_OF, {"path": path, "reader": "pypdf"})
            found = found if isinstance(again, Failure) or "refusal" in again else again
        if isinstance(found, Failure) or "refusal" in found:
            why = found.why if isinstance(found, Failure) else found["refusal"]
            yield Reject(why, origin, "read")
            return
        pages = list(found["pages"])
        for number in found["broken"]:
            yield Reject("the page cannot be read", Origin(origin.file, page=number), "read")
        yield from self._scans(pool, path, found["scanned"], pages, origin)
        text = pdf.joined(pages)
        if not text.strip():
            if not found["scanned"]:
                yield Reject("has no text, and no scan either", origin, "read")
            return
        try:
            yield Given(checked(Row(text=text, group=group, source=name)), origin)
        except NotARow as error:
            yield Reject(str(error), origin, "read")

    def _scans(
        self, pool: Pool, path: str, scanned: list[int], pages: list[str], origin: Origin
    ) -> Iterator[Reject]:
        """Read scanned pages into `pages`, or tell each of them."""
        for number in scanned:
            place = Origin(origin.file, page=number)
            if not self.entry.get("ocr"):
                why = "a scan without text; `ocr: true` reads it"
                yield Reject(why, place, SCANNED, is_bad=False)
                continue
            task = {"path": path, "page": number, "languages": self._languages}
            answer = pool.run("remote.payload.data.archive.pdf:text_of_scan", task)
            if isinstance(answer, Failure):
                yield Reject(f"the scan cannot be read: {answer.why}", place, "read")
            elif not answer.strip():
                yield Reject("a scan in which nothing is read", place, SCANNED, is_bad=False)
            else:
                pages[number - 1] = answer

    @property
    def _patience(self) -> list[Any]:
        """What may set a document aside: who raises it has them read again."""
        return [self.context.limits.get(name) for name in ("document_seconds", "memory_mb")]

    @property
    def _languages(self) -> str:
        return str(self.entry.get("languages") or "eng")

    @cached_property
    def _access(self) -> Access:
        return Access.of(self.entry)


def open_source(entry: Mapping[str, Any], context: Context) -> Archives:
    """The archives of an entry. Raises StageFailed for languages that are none."""
    languages = str(entry.get("languages") or "eng")
    if not re.fullmatch(r"[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)*", languages):
        raise StageFailed(
            Cause.CONFIG, f"languages: {languages}", remedy="write them as `fra` or `fra+eng`"
        )
    return Archives(entry, context)


def listing_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """In a worker: what lies in an archive. `identity` of its content; `tops` with index, offset
    and number of items of each member; the numbers of `others`, which are no documents; `items` in
    all; whether it `is_stream`."""
    context, held = Context.of(task["context"]), Held.of(task["held"])
    if kept := kept_listing(context, held):
        return kept
    mark, identity = held.mark, held.identity()
    tops: list[list[int]] = []
    others: list[int] = []
    count = 0
    with held.opened(Access(**task["access"])) as file:
        is_packed = is_stream(file)
        for item in Walk(LIMITS, context.folder, held.size).items(file, held.name):
            if not tops or tops[-1][0] != item.top.index:
                tops.append([item.top.index, item.top.offset, 0])
            tops[-1][2] += 1
            count += 1
            if item.opened is None:
                others.append(item.number)
    told = {"identity": identity, "tops": tops, "others": others, "items": count}
    found = {**told, "is_stream": is_packed}
    atomic.write_json(_listing_file(context, mark), found)
    return found


def kept_listing(context: Context, held: Held) -> dict[str, Any] | None:
    """The listing of an archive, where it was kept and the archive has not changed."""
    try:
        found = untrusted_json.read_object(_listing_file(context, held.mark))
        return found if found["items"] >= 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _listing_file(context: Context, mark: list[Any]) -> Path:
    name = key_of(_VERSION, mark, asdict(LIMITS))
    return context.folder / "listings" / f"{name}.json"


def _archive_units(
    held: Held, listing: Mapping[str, Any], is_fine: bool
) -> Iterator[tuple[Unit, int]]:
    if lost := listing.get("lost"):
        what = {"lost": f"the archive cannot be listed: {lost}", "name": held.name}
        yield Unit(f"{held.name}#", digest.of_value([held.mark, lost]), 0, what), 0
        return
    for each in ranges(listing["tops"], bool(listing["is_stream"]), is_fine):
        others = listing["others"]
        refused = bisect.bisect_left(others, each.last) - bisect.bisect_left(others, each.first)
        unit = Unit(
            f"{held.name}#{each.first:08d}",
            digest.of_value([listing["identity"], each.first, each.last]),
            held.size,
            {"held": asdict(held), "mark": held.mark, "range": asdict(each)},
        )
        yield unit, each.last - each.first - refused


def _capped(units: Iterator[tuple[Unit, int]], most: int) -> Iterator[Unit]:
    """Units with so many documents in all; 0 for no limit. The last one says where more follows."""
    left = most
    for unit, documents in units:
        if not most or documents < left:
            left -= documents
            yield unit
            continue
        is_more = documents > left or next(units, None) is not None
        what = {**unit.what, "most": left, "is_more": is_more}
        yield Unit(unit.id, digest.of_value([unit.digest, left, is_more]), unit.size, what)
        return


def _bundles(held: list[Held]) -> Iterator[list[Held]]:
    """Loose files together, such that a new one changes only the bundle it comes into."""
    bundle: list[Held] = []
    for each in sorted(held, key=lambda each: each.name):
        bundle.append(each)
        mark = hashlib.sha256(each.name.encode(errors="surrogateescape")).digest()
        if int.from_bytes(mark[:4], "big") % _LOOSE == 0 or len(bundle) >= 4 * _LOOSE:
            yield bundle
            bundle = []
    if bundle:
        yield bundle


def _loose_unit(bundle: list[Held]) -> tuple[Unit, int]:
    told = [[each.name, each.identity()] for each in bundle]
    size = sum(each.size for each in bundle)
    what = {"loose": [[asdict(each), each.mark] for each in bundle]}
    return Unit(f" {bundle[0].name}", digest.of_value(told), size, what), len(bundle)


def _looked_at(file: IO[bytes], name: str) -> tuple[str, str]:
    """The group of a document, which is its content's hash; and that it is something else than its
    name says, where it is."""
    file.seek(0)
    head = file.read(FIRST_BYTES * 2)
    content = hashlib.sha256(head)
    while more := file.read(1 << 20):
        content.update(more)
    if b"%PDF-" in head:
        return content.hexdigest()[:32], ""
    found = kind_of(head[:FIRST_BYTES]) or "no PDF"
    return "", f"is called a PDF, and is {found}" if name.lower().endswith(
        ".pdf"
    ) else f"is {found}"


def _is_loose(name: str) -> bool:
    return not is_archive(name)


def _is_wanted(name: str) -> bool:
    last = name.rpartition("/")[2]
    return not last.startswith(".") and (is_archive(name) or name.lower().endswith(".pdf"))
