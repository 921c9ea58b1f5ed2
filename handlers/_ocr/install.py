"""What to install when no engine is there; free of imports that could be missing too."""

from supervisor import PermanentError

_HOW = (
    "install tesserocr with `pip install 'mongo-job-supervisor[ocr]'` and `apt install tesseract-ocr-eng`, "
    "or the program with `apt install tesseract-ocr`"
)


def no_engine(reason: str) -> PermanentError:
    """Return the error for a machine that cannot read pages, naming both ways to mend it."""
    return PermanentError(f"no OCR engine is ready ({reason}): {_HOW}", code="no_ocr_engine")
