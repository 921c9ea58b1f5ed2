"""Other systems as contenders, each in one file of one shape, run in a virtual environment of its own.

A file has, as plain literals that are read without importing it:

- `PACKAGES`, what pip installs; `SERVER`, `redis` or `postgres`;
- `WORKER`, the command that starts two workers (or, with `EACH = True`, one of the two), and `PREPARE`, one that runs
  before, if any;

and as code, imported in that environment only: `enqueue(name, payload)`, and whatever its worker needs to find. Every
job calls `bench.peers.noted.job`, which does the work and notes when it started and ended.
"""
