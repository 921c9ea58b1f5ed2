"""Jobs as coroutines in the supervisor's own event loop."""
