"""A module for `pool.modules` that has a supervisor look for work only where something tells it to."""

from supervisor.wakeup import Pace, Wakeup

HOUR_S = 3600.0

(_pace,) = (default for default in Wakeup.__init__.__defaults__ or () if isinstance(default, Pace))
for _field in ("poll_s", "quiet_s"):
    object.__setattr__(_pace, _field, HOUR_S)
