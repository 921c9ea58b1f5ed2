"""The `ocr` handler: a PDF, PNG, JPEG or TIFF becomes text with page offsets and confidences.

How it works is told in `handlers._ocr`. Importing this module loads no engine and succeeds without any: what is
missing shows when a job needs it, as a PermanentError that says what to install.
"""

from typing import Any

import structlog

from handlers._ocr.install import no_engine
from handlers._ocr.payload import OcrPayload
from supervisor import JobContext, PermanentError, handler

TIMEOUT_S = 600
"""A 200-page scan takes about 6 minutes on one core."""
MEMORY_LIMIT_MB = 1500
"""The largest allowed page, 40 megapixels, takes about 700 MB with tesserocr; rapidocr takes up to 1.1 GB."""


@handler.setup(fork_safe=True)
def preload() -> None:
    """Load tesserocr with English, Pillow and pypdfium2 once; what is missing is a job's business, not a start's."""
    try:
        from handlers._ocr import recipe, tesseract_library  # noqa: PLC0415 - heavy

        tesseract_library.preload()
    except (ImportError, OSError, PermanentError) as error:
        structlog.get_logger().info("ocr is not preloaded", reason=str(error))
    else:
        structlog.get_logger().debug("ocr is preloaded", recipe=recipe.__name__)


@handler("ocr", timeout_s=TIMEOUT_S, memory_limit_mb=MEMORY_LIMIT_MB)
def ocr(payload: OcrPayload, job: JobContext) -> dict[str, Any]:
    """Read the document that `payload.source` names; see `OcrPayload` and `Report` for what goes in and comes out.

    Raises PermanentError with one of the codes `encrypted_pdf`, `corrupt_file`, `unsupported_type`, `file_too_large`,
    `too_many_pages`, `too_many_pixels`, `path_not_allowed`, `not_found`, `language_missing`, `no_ocr_engine`,
    `settings`.
    """
    try:
        from handlers._ocr.recipe import recognise  # noqa: PLC0415 - heavy, and may be missing
    except (ImportError, OSError) as error:
        raise no_engine(f"a library is missing: {error}") from None
    return recognise(payload, job)
