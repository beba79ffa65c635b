"""The declarations of the commands: their arguments, and which job each makes of them.

Commands import what they need when they run, so that ``relprop --help`` answers at once.
"""
