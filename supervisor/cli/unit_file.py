"""The text of a systemd unit, each choice with its reason beside it. What it depends on is handed in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PARENT = "mongo-job-supervisor"
"""The directory in /run in which each service has its own; `health` looks there."""
WATCHDOG_S = 30
"""A turn of the claim loop is over after a few calls to the database, of 5 s each at most."""
ABORT_S = 10
RESTART_S = 10
NOTIFY, NOTIFY_RELOAD = "notify", "notify-reload"
FIRST_WITH_RELOAD = 253
"""The first version of systemd that knows `notify-reload`."""


@dataclass(frozen=True)
class Service:
    """What a unit is made from."""

    name: str
    kind: str
    """NOTIFY or NOTIFY_RELOAD."""
    command: tuple[str, ...]
    folder: Path
    user: str | None
    """None: one that systemd makes up while the service runs."""
    start_s: float
    stop_s: float
    home: bool = False
    """Whether anything of it is in a home directory."""
    in_tmp: tuple[Path, ...] = ()
    """Directories in /tmp that it needs."""
    writable: tuple[Path, ...] = ()
    python_path: str = ""
    environment_file: Path | None = None
    database: Path | None = None
    """The directory of the embedded database."""


def unit(service: Service) -> str:
    """Return the unit as text."""
    sections = {
        "Unit": _unit(service),
        "Service": [
            *_process(service),
            "",
            *_life(service),
            "",
            *_directories(service),
            "",
            *_hardening(service),
        ],
        "Install": ["WantedBy=multi-user.target"],
    }
    return "\n\n".join("\n".join([f"[{name}]", *lines]) for name, lines in sections.items()) + "\n"


def _unit(service: Service) -> list[str]:
    return [
        f"Description=Runs jobs from MongoDB in worker processes ({service.name})",
        "Wants=network-online.target",
        "After=network-online.target mongod.service",
        "# a database that is away for a night must not leave it down in the morning; RestartSec= spaces the tries",
        "StartLimitIntervalSec=0",
    ]


def _process(service: Service) -> list[str]:
    lines = [
        f"Type={service.kind}",
        "NotifyAccess=main",
        f"ExecStart={' '.join(map(_argument, service.command))}",
    ]
    if service.kind == NOTIFY:
        lines.append("ExecReload=/bin/kill -HUP $MAINPID")
    if service.database:
        lock = _argument(str(service.database / "keeper.lock"))
        lines += [
            "# the embedded database ends after its last user: let it, before what is left is killed",
            f"ExecStopPost=-/usr/bin/flock --wait 20 {lock} true",
        ]
    lines.append(f"WorkingDirectory={_specifiers(str(service.folder))}")
    lines.append(f"User={service.user}" if service.user else "DynamicUser=yes")
    if service.python_path:
        lines.append(f"Environment={_quoted(f'PYTHONPATH={service.python_path}')}")
    if service.environment_file:
        lines.append(f"EnvironmentFile={_specifiers(str(service.environment_file))}")
    return [*lines, f"SyslogIdentifier={service.name}"]


def _life(service: Service) -> list[str]:
    return [
        "# the supervisor says when it is ready, and asks for more time while workers load their models",
        f"TimeoutStartSec={service.start_s:.0f}",
        "# shutdown.drain_s, and what killing and recording the rest may take; a longer drain asks for more time",
        f"TimeoutStopSec={service.stop_s:.0f}",
        "# fed by the claim loop itself: it starves when that hangs, and not when the database is slow",
        f"WatchdogSec={WATCHDOG_S}",
        f"TimeoutAbortSec={ABORT_S}",
        "# TERM is for the supervisor, who lets running jobs finish; what outlives it is killed",
        "KillMode=mixed",
        "# a worker that the kernel kills for its memory costs its job an attempt, not the service its life",
        "OOMPolicy=continue",
        "Restart=on-failure",
        f"RestartSec={RESTART_S}",
        "# exit code 2: a mistake in the configuration, which no restart mends",
        "RestartPreventExitStatus=2",
        "# handlers may make control groups of their own, and systemd leaves those alone",
        "Delegate=yes",
        "TasksMax=4096",
    ]


def _directories(service: Service) -> list[str]:
    lines = [
        f"StateDirectory={service.name}",
        "# where it tells `health` of its progress",
        f"RuntimeDirectory={PARENT}/{service.name}",
        "UMask=0077",
        "# nothing else can be written to; for a handler that has to, add a ReadWritePaths=",
        "ProtectSystem=strict",
        f"ProtectHome={'read-only' if service.home else 'yes'}",
        "PrivateTmp=yes",
        "TemporaryFileSystem=/dev/shm:mode=1777",
    ]
    if service.writable:
        lines.append(f"ReadWritePaths={' '.join(_quoted(str(path)) for path in service.writable)}")
    if service.in_tmp:
        lines.append(f"BindReadOnlyPaths={' '.join(_quoted(str(path)) for path in service.in_tmp)}")
    return lines


def _hardening(service: Service) -> list[str]:
    dynamic = [] if service.user else ["# DynamicUser= implies RemoveIPC="]
    return [
        *dynamic,
        "# for handlers on a graphics card: PrivateDevices=no",
        "PrivateDevices=yes",
        "PrivateIPC=yes",
        "PrivateMounts=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "LockPersonality=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "# for handlers with a sandbox of their own, such as a browser's: RestrictNamespaces=no",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged",
        "SystemCallErrorNumber=EPERM",
        "# left out: MemoryDenyWriteExecute= (libraries for models compile at run time), ProtectProc= and ProcSubset=",
        "# (a supervisor looks into /proc for its workers, and for whether its predecessor is dead)",
    ]


def _argument(text: str) -> str:
    """Return one argument of a command line: `$` would be a variable."""
    return _quoted(text.replace("$", "$$"))


def _quoted(text: str) -> str:
    """Return one word of a list; quotes only where it needs them."""
    escaped = _specifiers(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if any(character in escaped for character in " \t'\"\\;#") else escaped


def _specifiers(text: str) -> str:
    """Return text in which `%` stands for itself."""
    return text.replace("%", "%%")
