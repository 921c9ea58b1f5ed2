"""Celery on Redis, told to acknowledge late and to fetch one job at a time."""

from celery import Celery

from bench.peers import noted

PACKAGES = ("celery[redis]==5.7.*",)
SERVER = "redis"
WORKER = "celery -A bench.peers.celery worker --concurrency 2 -O fair --loglevel WARNING"

app = Celery("bench", broker=noted.SERVER, backend=noted.SERVER)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)


@app.task(name="job")
def job(name, payload):
    """Run a job."""
    noted.job(name, payload)


def enqueue(name, payload):
    """Enqueue a job."""
    job.delay(name, payload)
