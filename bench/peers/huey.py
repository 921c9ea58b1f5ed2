"""Huey on Redis: two worker processes. It has no setting that keeps a job whose worker dies."""

from huey import RedisHuey

from bench.peers import noted

PACKAGES = ("huey==3.5.*", "redis>=5")
SERVER = "redis"
WORKER = "huey_consumer bench.peers.huey.huey --workers 2 --worker-type process --quiet"

huey = RedisHuey("bench", url=noted.SERVER)


@huey.task(retries=3)
def job(name, payload):
    """Run a job."""
    noted.job(name, payload)


def enqueue(name, payload):
    """Enqueue a job."""
    job(name, payload)
