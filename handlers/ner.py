"""The `ner` handler: dates, sums, addresses and numbers in a text, with their offsets; names with a spaCy pipeline.

How it works is told in `handlers._ner`. Importing this module compiles no pattern and loads no library; a missing extra
shows when a job needs it, as a PermanentError that says what to install.
"""

from typing import Any

import structlog

from handlers._ner.payload import NerPayload
from supervisor import JobContext, PermanentError, handler

TIMEOUT_S = 300
"""The rules read 2 million characters in about 10 s; a small pipeline needs about a minute for each million."""


@handler.setup(fork_safe=True)
def preload() -> None:
    """Compile the patterns and load the numbering plans once; what is missing is a job's business, not a start's."""
    from handlers._ner import recipe  # noqa: PLC0415 - compiles every pattern

    log = structlog.get_logger()
    try:
        recipe.preload()
    except PermanentError as error:
        log.info("ner is not wholly preloaded", reason=str(error))
    else:
        log.debug("ner is preloaded")


@handler("ner", timeout_s=TIMEOUT_S)
def ner(payload: NerPayload, job: JobContext) -> dict[str, Any]:
    """Find the entities in `payload.text`, or in the text that the job `payload.parent_job_id` returned.

    Returns a `ner/1` document:

        {"schema": "ner/1", "models": [{"kind", "name", "version", "labels_supported"}],
         "entities": [{"label", "start", "end", "text", "norm", "score", "validated", "source", "page"}],
         "counts": {label: n}, "warnings": ["code: explanation"], "seconds": wall time}

    `start` and `end` count code points: `text[start:end]` is the entity's text, and no two entities overlap. `norm` is
    the value in machine-readable form (see the `find_…` function of the label), null where the text leaves it open.
    `validated` means that more than the pattern was checked (mod 97, a numbering plan, the calendar, ISO 4217), and
    `score` is 1.0 then and null otherwise: nothing here can compute another number honestly. `page` is the number of
    the parent's page, null for a plain text.

    Raises PermanentError with one of the codes `text_too_long`, `model_missing`, `missing_extra`, `unknown_region`,
    `parent_without_text`, `settings`, or `not_found` when there is no parent.
    """
    from handlers._ner.recipe import recognise  # noqa: PLC0415 - compiles every pattern

    return recognise(payload, job)
