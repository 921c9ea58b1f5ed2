"""Writes the reference pages under docs/reference/ from the code: `python -m supervisor.reference`."""
