"""A page of the project's own to try the handlers on: a letter, drawn, then made to look scanned.

Names are invented, domains and telephone numbers are those reserved for examples, account numbers the published
test ones. Its text is known, so what is read from it can be scored.
"""

import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

LINES = (
    "Northgate Marine Supplies Ltd",
    "27 Quayside Road, Plymouth PL1 3RP",
    "Phone +44 20 7946 0321, e-mail orders@northgate.example",
    "",
    "Date: 12 September 2025",
    "Invoice number: INV-2025-004187",
    "",
    "Ms. Helena Brandt",
    "Rheinblick Logistik GmbH",
    "Hafenstrasse 9, 50667 Cologne, Germany",
    "",
    "Dear Ms. Brandt,",
    "",
    "Thank you for your order of 28 August 2025. The goods left our warehouse at",
    "07:45 on 11 September 2025 and should be unloaded in Rotterdam by 16:30 on",
    "Monday. Please find the charges below; a discount of 12.5% was taken off.",
    "",
    "Mooring rope of 200 metres, 4 pieces: EUR 1,284.00",
    "Brass signal lamps, 12 pieces: EUR 742.80",
    "Freight and insurance: EUR 156.45",
    "Total before tax: EUR 2,183.25",
    "Tax at 19%: EUR 414.82",
    "Total amount due: EUR 2,598.07",
    "",
    "Payment is due by 12 October 2025 to the account GB82 WEST 1234 5698 7654 32.",
    "After that date we charge 1.5% interest per month. Customers outside the euro",
    "area may pay $2,812.40 instead, quoting reference NMS/88213.",
    "",
    "Questions? Call Mr. Daniel Osei between 9:00 and 17:30 on +44 20 7946 0958, or",
    "read https://www.northgate.example/invoices for ways to pay.",
    "",
    "Yours sincerely,",
    "Catherine Hale",
    "Head of Accounts, Northgate Marine Supplies Ltd",
)
"""What stands on the page, line by line."""

DPI = 200
_SIZE = (1654, 2339)  # A4
_MARGIN, _TOP, _LEADING, _FONT_PX = 150, 170, 56, 36
_SKEW_DEGREES, _BLUR_PX, _NOISE = 1.2, 0.8, 0.06
_SEED = 20250912


def make_sample(path: str | Path) -> str:
    """Write the page to `path` as PNG, the same picture every time, and return its text."""
    draw_sample().save(path, "PNG", dpi=(DPI, DPI))
    return "\n".join(line for line in LINES if line)


def draw_sample() -> Image.Image:
    """Return the page in 8-bit grey, at `DPI`: skewed, blurred and with some noise."""
    page = _letter().rotate(_SKEW_DEGREES, Image.Resampling.BICUBIC, fillcolor=255)
    page = page.filter(ImageFilter.GaussianBlur(_BLUR_PX))
    grain = random.Random(_SEED).randbytes(page.width * page.height)  # noqa: S311 - grain, not a secret
    return Image.blend(page, Image.frombytes("L", page.size, grain), _NOISE)


def _letter() -> Image.Image:
    page = Image.new("L", _SIZE, 255)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(_FONT_PX)
    for row, line in enumerate(LINES):
        draw.text((_MARGIN, _TOP + row * _LEADING), line, fill=20, font=font)
    return page
