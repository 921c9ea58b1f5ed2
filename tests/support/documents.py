"""Documents for the tests, made as they are needed: PDFs written by hand, pictures drawn with Pillow."""

import hashlib
import io
import struct
import zlib
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

A4_POINTS = (595, 842)
_PAD = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")  # ISO 32000-1, 7.6.3.3
_FILE_ID = bytes(range(16))
_PERMISSIONS = -4


def text_pdf(pages: Sequence[Sequence[str]], password: str | None = None, size: tuple[int, int] = A4_POINTS) -> bytes:
    """Return a PDF with a text layer: one string per line, one sequence of lines per page."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    key = None if password is None else _key(password)
    kids = []
    for lines in pages:
        number = len(objects) + 1
        kids.append(f"{number} 0 R")
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (*size, number + 1)
        )
        shown = b"".join(b"(%s) Tj T*\n" % line.encode("latin-1") for line in lines)
        content = b"BT /F1 12 Tf 16 TL 60 780 Td\n" + shown + b"ET"
        content = content if key is None else _rc4(_object_key(key, number + 1), content)
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>".encode()
    if key is None or password is None:
        return _assemble(objects, b"")
    objects.append(_encryption(key, password))
    return _assemble(objects, b"/Encrypt %d 0 R /ID [<%s> <%s>]" % (len(objects), *[_FILE_ID.hex().encode()] * 2))


def scan_pdf(images: Sequence[Image.Image], dpi: int = 200) -> bytes:
    """Return a PDF whose pages are pictures."""
    file = io.BytesIO()
    images[0].save(file, "PDF", save_all=True, append_images=images[1:], resolution=dpi)
    return file.getvalue()


def picture(lines: Sequence[str], size: tuple[int, int] = (1240, 700), font_px: int = 36) -> Image.Image:
    """Return lines of black text on white, 8-bit grey."""
    image = Image.new("L", size, 255)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(font_px)
    for row, line in enumerate(lines):
        draw.text((60, 60 + row * font_px * 1.7), line, fill=0, font=font)
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return `image` as a file of format `kind`."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """Return a small PNG whose header claims a size that its data does not have."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def looping_tiff() -> bytes:
    """Return a TIFF whose second directory says that the first comes next."""
    data = bytearray(encoded(picture(["page"]), "TIFF", save_all=True, append_images=[picture(["page"])]))
    first = struct.unpack_from("<I", data, 4)[0]
    second_link = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    second = struct.unpack_from("<I", data, second_link)[0]
    last_link = second + 2 + 12 * struct.unpack_from("<H", data, second)[0]
    struct.pack_into("<I", data, last_link, first)
    return bytes(data)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _assemble(objects: Sequence[bytes], trailer: bytes) -> bytes:
    file, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    file += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    file += b"trailer << /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, table)
    return bytes(file)


def _owner_entry(password: str) -> bytes:
    return _rc4(hashlib.md5(_padded(password)).digest()[:5], _padded(password))


def _key(password: str) -> bytes:
    seed = _padded(password) + _owner_entry(password) + struct.pack("<i", _PERMISSIONS) + _FILE_ID
    return hashlib.md5(seed).digest()[:5]


def _object_key(key: bytes, number: int) -> bytes:
    return hashlib.md5(key + struct.pack("<I", number)[:3] + b"\0\0").digest()[:10]


def _encryption(key: bytes, password: str) -> bytes:
    entries = _owner_entry(password).hex(), _rc4(key, _PAD).hex(), _PERMISSIONS
    return "<< /Filter /Standard /V 1 /R 2 /O <{}> /U <{}> /P {} >>".format(*entries).encode()


def _padded(password: str) -> bytes:
    return (password.encode("latin-1") + _PAD)[:32]


def _rc4(key: bytes, data: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
