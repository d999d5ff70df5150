"""Small PDFs for tests, written by hand: pages of lines, pages that are pictures, and such as mean
harm."""

import io
import tarfile
import zipfile
import zlib


def pdf(*pages: "list[str] | tuple[int, int, bytes]") -> bytes:
    """A PDF of pages, each of lines of text, or a grey picture (width, height, bytes)."""
    objects = {1: b"<< /Type /Catalog /Pages 2 0 R >>"}
    objects[3] = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    kids, number = [], 4
    for page in pages:
        kids.append(number)
        resources = b"/Font << /F 3 0 R >>"
        if isinstance(page, tuple):
            width, height, grey = page
            packed = zlib.compress(grey)
            objects[number + 2] = (
                b"<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray"
                b" /BitsPerComponent 8 /Filter /FlateDecode /Length %d >>\nstream\n"
                % (width, height, len(packed))
            ) + (packed + b"\nendstream")
            resources = b"/XObject << /I %d 0 R >>" % (number + 2)
            content = b"q 612 0 0 792 0 0 cm /I Do Q"
        else:
            shown = (
                f"BT /F 12 Tf 72 {740 - 16 * at} Td ({line}) Tj ET" for at, line in enumerate(page)
            )
            content = "\n".join(shown).encode("latin-1")
        objects[number] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
            b" /Resources << %s >> >>" % (number + 1, resources)
        )
        objects[number + 1] = stream(content)
        number += 3
    listed = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[2] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (listed, len(kids))
    return assembled(objects)


def stream(content: bytes, head: bytes = b"") -> bytes:
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (head, len(content), content)


def assembled(objects: dict[int, bytes]) -> bytes:
    """A whole file, with its table of objects."""
    made, offsets = bytearray(b"%PDF-1.7\n"), {}
    for number, content in sorted(objects.items()):
        offsets[number] = len(made)
        made += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    at, count = len(made), max(objects) + 1
    made += b"xref\n0 %d\n0000000000 65535 f \n" % count
    for number in range(1, count):
        line = b"%010d 00000 n \n" if number in offsets else b"%010d 00000 f \n"
        made += line % offsets.get(number, 0)
    made += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, at)
    return bytes(made)


def _single(content: bytes, more: dict[int, bytes], resources: bytes = b"") -> bytes:
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R"
        b" /Resources << /Font << /F 3 0 R >> %s >> >>" % resources
    )
    return assembled(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R >>",
            2: b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
            3: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            4: page,
            5: content,
            **more,
        }
    )


def endless() -> bytes:
    """Forms that draw forms: a page of 20 ** 8 words."""
    forms = {}
    for level in range(8):
        inner, number = b"/X Do " * 20, 10 + level
        head = b"/Type /XObject /Subtype /Form /BBox [0 0 612 792]"
        if level == 7:
            head += b" /Resources << /Font << /F 3 0 R >> >>"
            inner = b"BT /F 12 Tf 72 700 Td (word) Tj ET"
        else:
            head += b" /Resources << /XObject << /X %d 0 R >> >>" % (number + 1)
        forms[number] = stream(inner, head)
    return _single(stream(b"/X Do"), forms, b"/XObject << /X 10 0 R >>")


def greedy(megabytes: int) -> bytes:
    """A page whose content unpacks to so much."""
    packer, packed = zlib.compressobj(1), b""
    for _ in range(megabytes):
        packed += packer.compress(b"BT ET \n" * ((1 << 20) // 7))
    packed += packer.flush()
    return _single(stream(zlib.compress(packed), b"/Filter [/FlateDecode /FlateDecode]"), {})


def zip_of(members: "dict[str, bytes]", **options: object) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, **options) as archive:  # type: ignore[arg-type]
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def tar_of(members: "dict[str, bytes | tarfile.TarInfo]", packing: str = "") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=f"w:{packing}") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()
