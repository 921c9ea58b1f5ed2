"""The work as handlers of a supervisor."""

from bench import work
from supervisor import handler

for name, function in work.BY_NAME.items():
    handler(name)(function)
