"""The chaos run: many jobs while everything around them is killed, and an audit by witnesses outside of the program.

See docs/explanation/chaos.md.
"""
