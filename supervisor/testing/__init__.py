"""For the tests of who uses this: a pytest plug-in with a real queue, a real supervisor, and handlers called inline.

pytest finds it where this distribution is installed; see docs/how-to/test-your-jobs.md.
"""
