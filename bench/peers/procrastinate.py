"""Procrastinate on PostgreSQL: two worker processes, one job at a time each."""

import functools

import procrastinate

from bench.peers import noted

PACKAGES = ("procrastinate==3.10.*", "psycopg[binary,pool]>=3.2")
SERVER = "postgres"
PREPARE = "procrastinate --app bench.peers.procrastinate.app schema --apply"
WORKER = "procrastinate --app bench.peers.procrastinate.app worker --concurrency 1"
EACH = True

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=noted.SERVER))


@app.task(name="job", retry=3)
def job(name, payload):
    """Run a job."""
    noted.job(name, payload)


def enqueue(name, payload):
    """Enqueue a job."""
    _opened()
    job.defer(name=name, payload=payload)


@functools.cache
def _opened():
    app.open()  # workers open it by themselves, in another way
