"""The image of deploy/Dockerfile, built and run here without a daemon, by buildah and runc.

No registry of images is needed either: debootstrap makes the base from the same packages as debian:*-slim, out of the
mirror that this machine's apt uses.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.deployment import DOCKERFILE, compose
from tests.support.supervising import ROOT

TOOLS = ("buildah", "runc", "debootstrap")
SUITE = "trixie"
CERTIFICATES = "/etc/ssl/certs"
Document = dict[str, Any]


def run(*command: str | Path, timeout_s: float = 600) -> str:
    """Run a program to its end and return what it wrote; AssertionError with its words if it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    assert done.returncode == 0, f"{command[:4]}…: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@dataclass(frozen=True)
class Image:
    """A built image: its files, what it says of itself, and the size of the base it stands on."""

    root: Path
    config: Document
    base_mb: int

    @property
    def added_mb(self) -> int:
        return megabytes(self.root) - self.base_mb


def megabytes(folder: Path) -> int:
    return int(run("du", "--summarize", "--block-size=1M", folder).split()[0])


@contextlib.contextmanager
def built_image(folder: Path) -> Iterator[Image]:
    """Build the image with all its files below `folder`."""
    base = folder / "base"
    make_base(base)
    storage = ("--root", str(folder / "storage"), "--runroot", str(folder / "run"))
    try:
        scratch = run("buildah", *storage, "from", "scratch").strip()
        run("buildah", *storage, "add", "--quiet", scratch, base, "/")
        run("buildah", *storage, "commit", "--quiet", "--rm", scratch, "localhost/base")
        run("buildah", *storage, "build", *build_options(folder), "--tag", "localhost/image", ROOT)
        container = run("buildah", *storage, "from", "--pull-never", "localhost/image").strip()
        root = Path(run("buildah", *storage, "mount", container).strip())
        described = json.loads(run("buildah", *storage, "inspect", "--type", "image", "localhost/image"))
        yield Image(root, described["Docker"]["config"], megabytes(base))
    finally:
        run("buildah", *storage, "umount", "--all")
        run("buildah", *storage, "rm", "--all")
        shutil.rmtree(folder)


def make_base(folder: Path) -> None:
    """Make the root of a minimal Debian without lists and caches of packages, as the official images are."""
    targets = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian")
    run("debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, folder, targets.split()[0])
    run("chroot", folder, "apt-get", "clean")
    shutil.rmtree(folder / "var/lib/apt/lists")
    (folder / "etc/apt/apt.conf.d/no-caches").write_text('Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n')


def build_options(folder: Path) -> list[str]:
    """Return how to build from the base made here, with packages from where this machine gets them."""
    pip = folder / "pip.conf"
    index = subprocess.run(["pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False)
    certificates = os.environ.get("PIP_CERT", f"{CERTIFICATES}/ca-certificates.crt")
    pip.write_text(f"[global]\ncert = {certificates}\n" + (f"index-url = {index.stdout}" if index.stdout else ""))
    return [
        *("--format", "docker", "--isolation", "chroot", "--pull-never", "--build-arg", "DEBIAN=localhost/base"),
        *("--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro", "--volume", f"{pip}:/etc/pip.conf:ro"),
        *("--file", str(DOCKERFILE)),
    ]


@dataclass
class Container:
    """The image as Compose and Kubernetes run it: read-only, without privileges, `config` and `app` mounted."""

    image: Image
    folder: Path
    uri: str
    database: str
    host: str = "pod-1"
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        for folder in (self.config, self.app):
            folder.mkdir(parents=True)

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def app(self) -> Path:
        return self.folder / "app"

    @property
    def name(self) -> str:
        return f"{self.folder.name}-{os.getpid()}"

    def start(self) -> None:
        (self.folder / "config.json").write_text(json.dumps(self._bundle()))
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*self._runc, "run", "--bundle", self.folder, self.name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as probes and hooks do."""
        return subprocess.run(
            [*self._runc, "exec", self.name, *command], capture_output=True, text=True, check=False, timeout=120
        )

    def begin(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in the container."""
        return subprocess.Popen([*self._runc, "exec", self.name, *command], stdout=subprocess.PIPE, text=True)

    def init(self) -> psutil.Process:
        """Return the first process, as the host sees it."""
        return psutil.Process(json.loads(run(*self._runc, "state", self.name))["pid"])

    def signal(self, sig: signal.Signals) -> None:
        """Send a signal to the first process, as `docker stop` and the kubelet do."""
        run(*self._runc, "kill", self.name, str(sig.value))

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def end(self) -> None:
        subprocess.run([*self._runc, "delete", "--force", self.name], capture_output=True, check=False)
        self.process.wait(30)

    @property
    def _runc(self) -> list[str]:
        return ["runc", "--root", str(self.folder.parent / "runc")]

    def _bundle(self) -> Document:
        """Return the configuration of runc: its own default, and what the image and the Compose file say."""
        scratch = self.folder / "default"
        scratch.mkdir()
        run("runc", "spec", "--bundle", scratch)
        bundle: Document = json.loads((scratch / "config.json").read_text())
        said, service = self.image.config, compose()["services"]["supervisor"]
        uid, gid = (int(part) for part in said["User"].split(":"))
        bundle["process"] |= {
            "terminal": False,
            "args": [*said["Entrypoint"], *said["Cmd"]],
            "env": [*said["Env"], f"SUPERVISOR_MONGO__URI={self.uri}", f"SUPERVISOR_MONGO__DATABASE={self.database}"],
            "cwd": said["WorkingDir"],
            "user": {"uid": uid, "gid": gid},
            "noNewPrivileges": True,
            "capabilities": {},
            "rlimits": [],
        }
        bundle["root"] = {"path": str(self.image.root), "readonly": service["read_only"]}
        bundle["hostname"] = self.host
        bundle["mounts"] += [
            *(_mount(path, "tmpfs", "tmpfs", "nosuid", "nodev", "mode=1777") for path in service["tmpfs"]),
            _mount(said["WorkingDir"], "bind", str(self.config), "rbind", "ro"),
            _mount("/app", "bind", str(self.app), "rbind", "ro"),
        ]
        # with the network of the host, where the test's database is
        bundle["linux"]["namespaces"] = [each for each in bundle["linux"]["namespaces"] if each["type"] != "network"]
        return bundle


def _mount(destination: str, kind: str, source: str, *options: str) -> Document:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}
