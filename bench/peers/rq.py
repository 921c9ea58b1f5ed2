"""RQ on Redis, as it is: a fork per job."""

from redis import Redis
from rq import Queue, Retry

from bench.peers import noted

PACKAGES = ("rq==3.0.*",)
SERVER = "redis"
WORKER = "rq worker-pool --num-workers 2 --url {server} --logging-level WARNING"

queue = Queue(connection=Redis.from_url(noted.SERVER))


def enqueue(name, payload):
    """Enqueue a job."""
    queue.enqueue(noted.job, name, payload, retry=Retry(max=3), job_timeout=600)
