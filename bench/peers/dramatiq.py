"""Dramatiq on Redis: two processes with a thread each."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.peers import noted

PACKAGES = ("dramatiq[redis]==2.2.*",)
SERVER = "redis"
WORKER = "dramatiq bench.peers.dramatiq --processes 2 --threads 1"

dramatiq.set_broker(RedisBroker(url=noted.SERVER))


@dramatiq.actor(max_retries=3, time_limit=600_000)
def job(name, payload):
    """Run a job."""
    noted.job(name, payload)


def enqueue(name, payload):
    """Enqueue a job."""
    job.send(name, payload)
