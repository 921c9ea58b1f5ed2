"""`[http]`: the routes of `supervisor.web`, served by the supervisor itself, in a thread of its own."""
