"""Every error this package raises on purpose.

SupervisorError               caught at the command line: one line on stderr and `exit_code`
├── UsageError                a wrong argument                               (2)
├── ConfigError               a wrong key or value in the configuration      (2)
├── HandlerImportError        a module of handlers cannot be imported        (2)
├── UnknownHandlerError       no registered handler has that name            (2)
├── PayloadError              a payload its handler's model refuses          (2)
│   └── PayloadTooLargeError  one that is larger than a payload may be       (2)
├── DatabaseRefusedError      reachable, but not safe to run on              (2)
├── DatabaseUnreachableError  no answer within the allowed time              (3)
├── WorkersCannotStartError   no worker ever shook hands                     (4)
├── JobNotFoundError          no document has that id                        (1)
└── JobStateError             the job's status does not allow the request    (1)

PermanentError                raised by a handler: fail now, never retry
Retry                         raised by a handler: try again later
JobStopped (BaseException)    raised *inside* a handler by its worker, so that `except Exception` does not eat it
├── JobTimeout                the time limit has come
├── JobCancelled              somebody cancelled the job
└── JobInterrupted            the supervisor is stopping; the attempt is given back
"""

OF_A_VALIDATOR = "Value error, "
"""What pydantic puts in front of the words of a validator."""


class SupervisorError(Exception):
    """Base of the errors a user can act on; `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(SupervisorError):
    """A command was called with an argument it cannot take."""

    exit_code = 2


class ConfigError(SupervisorError):
    """The configuration is wrong; the message names the key, the value and what is allowed."""

    exit_code = 2


class HandlerImportError(SupervisorError):
    """A module of handlers cannot be imported; an application is told so at its start."""

    exit_code = 2


class UnknownHandlerError(SupervisorError):
    """No registered handler has this name."""

    exit_code = 2


class PayloadError(SupervisorError):
    """The payload does not fit the handler's model; the message names the field."""

    exit_code = 2


class PayloadTooLargeError(PayloadError):
    """The payload is larger than `limits.payload_kb`."""


class DatabaseRefusedError(SupervisorError):
    """The database answers but cannot keep the promises: a standalone, `w=1`, `retryWrites=false`."""

    exit_code = 2


class DatabaseUnreachableError(SupervisorError):
    """The database did not answer within the allowed time."""

    exit_code = 3


class WorkersCannotStartError(SupervisorError):
    """Worker processes die before they can take a job."""

    exit_code = 4


class JobNotFoundError(SupervisorError):
    """No job has this id."""


class JobStateError(SupervisorError):
    """The job's status does not allow what was asked."""


class PermanentError(Exception):
    """Raised by a handler: the job fails at once and is never retried.

    `code` is an optional machine-readable reason, kept as `error.code` (`"encrypted_pdf"`).
    """

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = None if code is None else str(code)


class Retry(Exception):  # noqa: N818 - an instruction to the supervisor more than an error
    """Raised by a handler: end this attempt and try again in `in_s` seconds (None: the usual backoff)."""

    def __init__(self, message: str = "", *, in_s: float | None = None) -> None:
        super().__init__(message or "the handler asked to be retried")
        if in_s is not None and (isinstance(in_s, bool) or not isinstance(in_s, (int, float)) or not 0 <= in_s < 1e9):
            raise ValueError(f"Retry: in_s is {in_s!r}, must be a number of seconds from 0 to 1e9")
        self.in_s = None if in_s is None else float(in_s)


class JobStopped(BaseException):
    """The worker was told to stop this job; the handler may clean up, within `kill_grace_s`."""


class JobTimeout(JobStopped):
    """The job's time limit has come."""


class JobCancelled(JobStopped):
    """Somebody asked for this job to be cancelled."""


class JobInterrupted(JobStopped):
    """The supervisor is stopping; the job will run again and the attempt is not counted."""
