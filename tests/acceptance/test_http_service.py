"""`[http]`: real supervisors that serve the routes themselves, and real clients, well behaved and not."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.command_line import CommandLine
from tests.support.http_service import TOKEN, address_of, body_of, client_of, half_an_upload, http, rest_of
from tests.support.mongo import start_mongod
from tests.support.supervising import MISBEHAVING, ROOT, Jobs, RunningSupervisor, StartSupervisor, gone
from tests.support.until import until
from tests.support.web import check_problem

LOAD_WITHOUT = "import sys; sys.modules['uvicorn'] = None; from supervisor.__main__ import run; run()"
"""The program where uvicorn is not installed."""


@pytest.fixture(scope="module")
def serving(start_for_module: StartSupervisor) -> RunningSupervisor:
    """One supervisor for all tests that leave it as it was."""
    return start_for_module(http=http())


@pytest.fixture
def client(serving: RunningSupervisor) -> Iterator[httpx.Client]:
    with client_of(serving) as found:
        yield found


def test_a_job_is_enqueued_followed_and_counted_over_http(client: httpx.Client) -> None:
    made = client.post("/jobs", json={"handler": "progress", "payload": {}})
    assert made.status_code == 202, made.text
    job_id = made.json()["job_id"]
    with client.stream("GET", f"/jobs/{job_id}/events") as stream:
        events = [line for line in stream.iter_lines() if line.startswith("event: ")]
    assert events[-1] == "event: end"
    assert client.get(f"/jobs/{job_id}").json()["status"] == "completed"
    assert job_id in [job["job_id"] for job in client.get("/jobs").json()["jobs"]]
    until(lambda: 'status="completed"' in client.get("/metrics").text, 20, "the metrics to count it")
    assert client.get("/health/jobs").json()["supervisors"] == 1


def test_a_batch_and_an_upload_come_in(client: httpx.Client, module_jobs: Jobs) -> None:
    batch = client.post("/batches", json={"jobs": [{"handler": "ok"}] * 3}).json()["batch_id"]
    until(lambda: client.get(f"/batches/{batch}").json()["status"] == "completed", 20, "the batch to end")
    made = client.post("/jobs/upload", data={"handler": "ok"}, files={"file": ("a.txt", b"words")}).json()
    until(lambda: client.get(f"/jobs/{made['job_id']}").json()["status"] == "completed", 20, "the job with the file")


def test_what_is_wrong_is_a_problem_document(client: httpx.Client) -> None:
    check_problem(client.post("/jobs", json={"handler": "nope"}), 422, "unknown handler 'nope'")
    check_problem(client.post("/jobs", json={"handler": "double", "payload": {"n": "x"}}), 422, "payload")
    check_problem(client.get("/nowhere"), 404, "nothing is at '/nowhere'")
    check_problem(client.delete("/jobs"), 405)
    check_problem(client.get("/jobs/nope"), 404, "no job has the id")


def test_every_route_but_the_probes_wants_the_token(serving: RunningSupervisor) -> None:
    with client_of(serving, token=None) as nobody, client_of(serving, token="another") as stranger:
        for path in ("/jobs", "/jobs/1", "/jobs/1/events", "/batches/1", "/health/jobs", "/metrics"):
            check_problem(nobody.get(path), 401)
            check_problem(stranger.get(path), 403)
        check_problem(nobody.post("/jobs", json={"handler": "ok"}), 401)
        for path in ("/health/live", "/health/ready"):
            assert nobody.get(path).json() == {"status": "ok"}
            assert nobody.head(path).status_code == 200


def test_an_edit_waits_for_a_restart_and_one_of_a_limit_counts_for_clients_too(
    start: StartSupervisor, jobs: Jobs
) -> None:
    supervisor = start(http=http(), pool={"workers": 0})
    supervisor.edit("http", port=1, token="a-new-one", max_upload_mb=7)
    supervisor.wait_for("config.needs_restart", count=3)
    said = [entry["change"] for entry in supervisor.events("config.needs_restart")]
    assert said == [
        "http.port: 0 -> 1 (needs a restart)",
        "http.token: *** -> *** (needs a restart)",
        "http.max_upload_mb: 100 -> 7 (needs a restart)",
    ]
    with client_of(supervisor) as client:
        large = {"handler": "ok", "payload": {"x": "x" * 3000}}
        assert client.post("/jobs", json=large).status_code == 202
        supervisor.edit("limits", payload_kb=1)
        supervisor.wait_for("config.changed")
        until(lambda: client.post("/jobs", json=large).status_code == 413, 20, "the new limit to count")
    assert TOKEN not in supervisor.output()


def test_web_sites_cannot_use_what_needs_no_token(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start(http=http(token=""), pool={"workers": 0})
    with client_of(supervisor, token=None) as client:
        assert client.get("/jobs").json() == {"jobs": [], "next": None}
        own = str(client.base_url).rstrip("/")
        port = own.rpartition(":")[2]
        sent = {"data": {"handler": "ok"}, "files": {"file": ("a.txt", b"words")}}
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
            check_problem(client.post("/jobs/upload", headers={"Origin": origin}, **sent), 403, "without a token")
        for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "[::ffff:1.2.3.4]"):
            check_problem(client.get("/jobs", headers={"Host": host}), 403, "set a token")
        assert client.get("/jobs").json()["jobs"] == []
        for host in (f"localhost:{port}", f"[::1]:{port}", "localhost"):
            assert client.get("/jobs", headers={"Host": host}).status_code == 200
        assert client.post("/jobs/upload", headers={"Origin": own}, **sent).status_code == 202


def test_during_a_drain_it_is_alive_and_not_ready_and_takes_jobs_in(start: StartSupervisor, jobs: Jobs) -> None:
    supervisor = start(http=http(), shutdown={"drain_s": 60})
    jobs.wait(jobs.insert("sleeps", {"seconds": 60}), "processing")
    with client_of(supervisor) as client:
        supervisor.process.send_signal(signal.SIGTERM)
        supervisor.wait_for("supervisor.draining")
        check_problem(client.get("/health/ready"), 503, "is draining")
        assert client.get("/health/live").json() == {"status": "ok"}
        late = client.post("/jobs", json={"handler": "ok"}).json()["job_id"]
        assert client.get(f"/jobs/{late}").json()["status"] == "pending"
        supervisor.process.send_signal(signal.SIGTERM)
        assert supervisor.process.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            client.get("/health/live")


def test_neither_streams_nor_uploads_hold_up_the_end(start: StartSupervisor, jobs: Jobs) -> None:
    """Each of the clients would go on for ever."""
    supervisor = start(http=http(), pool={"workers": 0})
    job_id = jobs.insert("ok")
    files = jobs.collection.database["files.chunks"]
    with (
        client_of(supervisor) as client,
        client.stream("GET", f"/jobs/{job_id}/events") as stream,
        socket.create_connection(_place_of(supervisor)) as silent,
        half_an_upload(supervisor) as upload,
    ):
        lines = stream.iter_lines()
        until(lambda: next(lines).startswith("event: status"), what="the stream to begin")
        silent.sendall(b"GET / HTTP/1.1\r\n")
        until(lambda: files.count_documents({}), 20, "the upload to be under way")
        assert supervisor.stop(30) == 0
        assert [line for line in lines if line.startswith("event:")] == [], "and then its proper end"
        answer = rest_of(upload)
    assert answer.startswith("HTTP/1.1 503 ")
    assert body_of(answer)["detail"] == "the supervisor is stopping"
    assert files.count_documents({}) == 0, "nothing is left of it"
    assert not supervisor.events("supervisor.part_hangs")
    assert not supervisor.events("http.failed")


def _place_of(supervisor: RunningSupervisor) -> tuple[str, int]:
    host, _, port = address_of(supervisor).removeprefix("http://").rpartition(":")
    return host, int(port)


def test_a_check_that_hangs_holds_up_http_and_nothing_else(start: StartSupervisor, jobs: Jobs, tmp_path: Path) -> None:
    supervisor = start(http=http(), pool={"workers": 1, "modules": [MISBEHAVING, "tests.support.slow_checks"]})
    with client_of(supervisor) as client, ThreadPoolExecutor() as threads:
        job = {"handler": "checked_slowly", "payload": {"folder": str(tmp_path)}}
        answer = threads.submit(client.post, "/jobs", json=job)
        until((tmp_path / "begun").exists, what="the check to begin")
        assert jobs.run("ok")["status"] == "completed"
        assert not answer.done()
        (tmp_path / "released").touch()
        assert answer.result().status_code == 202


def test_sigkill_leaves_nothing_that_listens(start: StartSupervisor) -> None:
    supervisor = start(http=http())
    family = supervisor.family()
    with client_of(supervisor) as client:
        assert client.get("/health/ready").status_code == 200
        supervisor.kill()
        gone(family)
        with pytest.raises(httpx.ConnectError):
            client.get("/health/live")


def test_without_the_database_it_is_alive_and_not_ready(start: StartSupervisor, tmp_path: Path) -> None:
    mongod = start_mongod(tmp_path)
    try:
        supervisor = start(http=http(), mongo={"uri": mongod.uri}, pool={"workers": 0})
        with client_of(supervisor) as client:
            assert client.get("/health/ready").status_code == 200
            mongod.kill()
            check_problem(client.get("/health/ready"), 503, "the database does not answer")
            assert client.get("/health/live").status_code == 200
    finally:
        mongod.stop()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_taken_port_is_one_line_that_names_it(command: CommandLine, taken_port: int) -> None:
    command.configure(http={"enabled": True, "port": taken_port})
    done = command("run")
    assert done.code == 2
    last = done.err.splitlines()[-1]
    assert last.startswith(f"error: [http] port = {taken_port}: 127.0.0.1:{taken_port} is taken by another program")
    assert "Traceback" not in done.err
    checked = command("check", "--json")
    assert (checked.code, checked.json["problems"]) == (0, [])
    (warning,) = checked.json["warnings"]
    assert f"127.0.0.1:{taken_port} is taken" in warning


def test_an_address_of_another_machine_is_one_line(command: CommandLine) -> None:
    command.configure(http={"enabled": True, "host": "203.0.113.1", "token": "x"})
    line = '[http] host = "203.0.113.1": is no address of this machine'
    done, checked = command("run"), command("check")
    assert (done.code, done.err.splitlines()[-1]) == (2, f"error: {line}")
    assert (checked.code, checked.error) == (2, line)


@pytest.mark.parametrize("arguments", [("run",), ("check",)])
def test_without_the_extra_it_says_what_to_install(arguments: tuple[str, ...], command: CommandLine) -> None:
    command.configure(http={"enabled": True, "port": 0})
    program = [sys.executable, "-c", LOAD_WITHOUT, *arguments]
    done = subprocess.run(
        program, cwd=command.folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: [http] enabled = true: needs the extra `web`: "
        "pip install 'mongo-job-supervisor[web]' (uvicorn is missing)"
    )
    assert "Traceback" not in done.stderr


def test_who_does_not_serve_does_not_load_the_server() -> None:
    program = (
        "import sys, supervisor.app\n"
        "print('loaded:', *sorted({name.split('.')[0] for name in sys.modules} & {'fastapi', 'uvicorn', 'starlette'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("loaded:\n", "")
