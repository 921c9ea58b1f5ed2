"""taskiq on Redis streams: two worker processes, one job at a time each, acknowledged when executed."""

import asyncio

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from bench.peers import noted

PACKAGES = ("taskiq==0.13.*", "taskiq-redis")
SERVER = "redis"
WORKER = "taskiq worker bench.peers.taskiq:broker --workers 2 --max-async-tasks 1 --max-prefetch 0"

# it reads 100 jobs at once by itself, which then wait for one worker while the other is idle
broker = RedisStreamBroker(noted.SERVER, xread_count=1).with_result_backend(RedisAsyncResultBackend(noted.SERVER))
_loop = asyncio.new_event_loop()


@broker.task(task_name="job")
def job(name, payload):
    """Run a job."""
    noted.job(name, payload)


def enqueue(name, payload):
    """Enqueue a job."""
    _loop.run_until_complete(job.kiq(name, payload))
