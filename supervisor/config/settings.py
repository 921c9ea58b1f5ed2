"""What can be configured: one frozen model per table of config.toml, with units, defaults and limits.

These models are the single source: the reference page, the messages for wrong values and the question whether a change
applies live are all read from them. They are strict (`"4"` is no number); `config_loading` reads the file, the
environment and the command line into them, `config_diff` compares two of them.

Names end in their unit: `_s` seconds, `_days` days, `_kb` 1,024 bytes, `_mb` 1,048,576 bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from supervisor.config.checks import (
    check_mongo_uri,
    check_plain,
    check_rate,
    check_timezone,
    check_token,
    is_loopback,
    redact_uri,
)
from supervisor.config.cron import check_cron
from supervisor.config.values import (
    MOST,
    MOST_KB,
    NO_CAP,
    RESTART,
    YEAR_S,
    Count,
    CountFromOne,
    Days,
    Megabytes,
    Modules,
    Names,
    Seconds,
    SecondsOrZero,
    Table,
    Text,
)
from supervisor.core.fleet import MOST_WORKERS


class MongoSettings(Table):
    """Where the jobs are."""

    uri: Annotated[str, AfterValidator(check_mongo_uri)] = Field(
        default="embedded",
        repr=False,
        description="Connection string of a replica set, or `embedded`: start a private local mongod.",
        json_schema_extra={"restart": True, "allowed": '"embedded", mongodb://… or mongodb+srv://…'},
    )
    database: str = Field(
        default="supervisor",
        pattern=r'^[^/\\. "$\x00]{1,63}$',
        description="Database that holds the jobs.",
        json_schema_extra={
            "restart": True,
            "allowed": 'a database name: 1 to 63 characters without / \\ . " $ or spaces',
        },
    )
    collection: str = Field(
        default="jobs",
        pattern=r"^[^$\x00]{1,120}$",
        description="Collection of the job documents.",
        json_schema_extra={"restart": True, "allowed": "a collection name: 1 to 120 characters without $"},
    )
    wait_s: SecondsOrZero = Field(
        default=30,
        description="How long `run` waits for the database at start, in seconds, before it exits with 3.",
        json_schema_extra=RESTART,
    )
    give_up_s: SecondsOrZero = Field(
        default=600,
        description="How long a running supervisor goes on without any answer of the database, in seconds, before it "
        "exits with 3; 0 = for ever.",
        json_schema_extra=RESTART,
    )

    @property
    def embedded(self) -> bool:
        """Whether the supervisor starts its own mongod."""
        return self.uri == "embedded"

    @property
    def redacted_uri(self) -> str:
        """`uri` as it may be logged: without its password."""
        return redact_uri(self.uri)


class PoolSettings(Table):
    """The worker processes of this machine."""

    workers: Literal["auto"] | Annotated[int, Field(ge=0, le=MOST_WORKERS)] = Field(
        default="auto", description="Worker processes: `auto` is the usable cores; 0 drains the pool."
    )
    modules: Modules = Field(
        default=("handlers",),
        description="Packages or modules to import for handlers.",
        json_schema_extra={"restart": True, "allowed": "a list of module names"},
    )
    claim: Names = Field(
        default=("*",),
        description="Which registered handlers this machine claims, by name; `*` is all.",
        json_schema_extra={"allowed": "a list of handler names"},
    )
    threads_per_worker: Annotated[int, Field(ge=1, le=MOST_WORKERS)] = Field(
        default=1,
        description="Threads that OpenMP, OpenBLAS and MKL may start in each worker.",
        json_schema_extra=RESTART,
    )
    pin: bool = Field(
        default=False,
        description="Whether each slot's worker is bound to one of the usable cores: the slot's number modulo theirs.",
    )
    nice: Annotated[int, Field(ge=0, le=19)] = Field(
        default=0,
        description="How much lower than the supervisor's the priority of workers is; those that run are replaced "
        "after their job.",
    )
    spares: Annotated[int, Field(ge=0, le=MOST_WORKERS)] = Field(
        default=0,
        description="Workers that stand ready, with their models loaded, for a slot whose worker has ended.",
    )
    load_timeout_s: Seconds = Field(
        default=300,
        description="Seconds that loading modules and setup hooks may take, in the fork server and in a worker.",
        json_schema_extra=RESTART,
    )
    max_jobs_per_worker: Count = Field(
        default=1000, description="Jobs after which a worker is replaced by a fresh one; 0 = never."
    )
    max_growth_mb: Megabytes = Field(
        default=512,
        description="Memory that a worker may gather after its tenth job, before a fresh one takes over; 0 = any.",
    )
    memory_limit_mb: Megabytes = Field(
        default=0, description="Memory of a worker with its subprocesses, enforced during the job; 0 = none."
    )
    kill_grace_s: Seconds = Field(
        default=2.0, description="Seconds between asking a job to stop and killing its worker and all that it started."
    )


class LeaseSettings(Table):
    """The renewable right to a claimed job."""

    seconds: Annotated[float, Field(ge=3, le=YEAR_S)] = Field(
        default=60, description="Life of a lease in seconds, renewed every quarter; under 30 warns."
    )
    reap_every_s: Seconds = Field(default=5, description="Seconds between two looks for expired leases, at most.")


class ShutdownSettings(Table):
    """What TERM and INT do."""

    drain_s: SecondsOrZero = Field(
        default=30,
        description="How long running jobs may finish, in seconds, before they are interrupted and given back.",
    )


class RetrySettings(Table):
    """What happens to a job after a failed attempt."""

    max_attempts: CountFromOne = Field(default=3, description="Attempts of a job whose handler names no number.")
    max_crashes: CountFromOne = Field(
        default=3, description="Attempts that may kill their worker before the job is quarantined."
    )
    pause_after_crashes: Count = Field(
        default=100, description="Different jobs of a handler that crash in a row before it is paused; 0 = never."
    )
    backoff_s: SecondsOrZero = Field(
        default=1.0, description="Wait before the second attempt, in seconds; later waits grow."
    )
    backoff_max_s: SecondsOrZero = Field(default=300.0, description="Longest wait between two attempts, in seconds.")


class RetentionSettings(Table):
    """When finished jobs are deleted."""

    completed_days: Days = Field(default=7, description="Days to keep completed jobs; 0 = keep for ever.")
    failed_days: Days = Field(default=30, description="Days to keep failed and cancelled jobs; 0 = keep for ever.")
    once_days: Days = Field(default=90, description="Days to remember what `job.once` has seen happen; 0 = for ever.")


class LimitsSettings(Table):
    """Sizes, in units of 1,024 bytes."""

    payload_kb: Annotated[int, Field(ge=1, le=MOST_KB)] = Field(
        default=1024, description="Largest payload; larger input belongs in a file."
    )
    result_inline_kb: Annotated[int, Field(ge=0, le=MOST_KB)] = Field(
        default=256, description="Largest result kept in the job document; a larger one goes to GridFS."
    )
    log_kb: Annotated[int, Field(ge=0, le=MOST_KB)] = Field(default=64, description="Captured output kept per attempt.")


class HandlerSettings(Table):
    """One handler's own limits; a key left out (None) is as the handler's code says."""

    timeout_s: Seconds | None = Field(default=None, description="Time limit of one attempt, in seconds.")
    max_attempts: CountFromOne | None = Field(default=None, description="Attempts before a job fails.")
    max_running: Count | None = Field(
        default=None,
        description="Jobs of this handler running at once on this supervisor; 0 = no cap. 100 for an `async def` that "
        "names none.",
    )
    max_running_total: Count | None = Field(
        default=None,
        description="Jobs of this handler running at once across the fleet; 0 = no cap.",
        json_schema_extra=NO_CAP,
    )
    max_running_per_group: Count | None = Field(
        default=None,
        description="Jobs of one `group_key` running at once across the fleet; 0 = no cap.",
        json_schema_extra=NO_CAP,
    )
    rate: Annotated[str, AfterValidator(check_rate)] | None = Field(
        default=None,
        description='Most starts in a period: "5/s", "100/min", "1000/hour"; "" = no cap.',
        json_schema_extra={"allowed": '"N/s", "N/min", "N/hour" or ""', **NO_CAP},
    )
    memory_limit_mb: Megabytes | None = Field(
        default=None, description="Memory of the worker with its subprocesses; 0 = none."
    )
    settings: Annotated[dict[str, Any], AfterValidator(check_plain)] = Field(
        default={}, description="Handed to the handler as `job.settings`.", json_schema_extra={"allowed": "a table"}
    )


class ScheduleSettings(Table):
    """One `[[schedules]]` entry: a job enqueued by the clock, once across all supervisors."""

    name: Text = Field(description="Name of the schedule, unique in the file.")
    handler: Text = Field(description="Handler of the job.")
    cron: Annotated[str, AfterValidator(check_cron)] = Field(
        description="Five fields: minute, hour, day of month, month, day of week.",
        json_schema_extra={"allowed": 'a cron line of five fields, such as "0 3 * * *"'},
    )
    timezone: Annotated[str, AfterValidator(check_timezone)] = Field(
        default="UTC",
        description="Time zone in which `cron` is read.",
        json_schema_extra={"allowed": 'a time zone such as "UTC" or "Europe/Berlin"'},
    )
    payload: Annotated[dict[str, Any], AfterValidator(check_plain)] = Field(
        default={}, description="Payload of the job.", json_schema_extra={"allowed": "a table"}
    )
    catch_up: Literal["skip", "latest"] = Field(
        default="skip",
        description="What becomes of run times at which no supervisor was there: `skip` leaves them out, `latest` "
        "makes one job for the latest of them.",
    )


class HttpSettings(Table):
    """Health, metrics and API, served by the supervisor itself; without effect in an application, which does that."""

    enabled: bool = Field(default=False, description="Whether to serve HTTP.", json_schema_extra=RESTART)
    host: Text = Field(default="127.0.0.1", description="Address to listen on.", json_schema_extra=RESTART)
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8787, description="Port to listen on; 0 = any free one.", json_schema_extra=RESTART
    )
    token: Annotated[SecretStr, AfterValidator(check_token)] = Field(
        default=SecretStr(""),
        description="Bearer token of every request; required when `host` is not loopback.",
        json_schema_extra={"restart": True, "allowed": "a string of ASCII characters without spaces"},
    )
    max_upload_mb: Annotated[int, Field(ge=1, le=MOST)] = Field(
        default=100, description="Largest file that may be uploaded.", json_schema_extra=RESTART
    )

    @model_validator(mode="after")
    def _token_guards_the_network(self) -> Self:
        if self.enabled and not self.token.get_secret_value() and not is_loopback(self.host):
            raise ValueError(f"token is required when host is not loopback (host is {self.host!r})")
        return self


class LogSettings(Table):
    """What the supervisor says, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severity to log.")
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto` is `console` on a terminal and `json` otherwise."
    )


class Settings(Table):
    """All of config.toml. `Settings()` is the defaults; nothing is read from the environment here."""

    mongo: MongoSettings = MongoSettings()
    pool: PoolSettings = PoolSettings()
    lease: LeaseSettings = LeaseSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    retry: RetrySettings = RetrySettings()
    retention: RetentionSettings = RetentionSettings()
    limits: LimitsSettings = LimitsSettings()
    handlers: dict[str, HandlerSettings] = Field(default={})
    schedules: Annotated[tuple[ScheduleSettings, ...], Field(strict=False)] = ()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()

    @field_validator("schedules")
    @classmethod
    def _names_are_unique(cls, schedules: tuple[ScheduleSettings, ...]) -> tuple[ScheduleSettings, ...]:
        names = [schedule.name for schedule in schedules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError("two schedules are named " + ", ".join(f'"{name}"' for name in twice))
        return schedules

    def handler(self, name: str) -> HandlerSettings:
        """Return what `[handlers.NAME]` says; of a handler without a table, nothing."""
        return self.handlers.get(name, HandlerSettings())
