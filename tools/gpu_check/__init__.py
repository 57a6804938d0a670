"""What tools/gpu-check does: stages of parts, of which each passes, fails, or is not run.

Data goes one way: main -> stages (build, tests, sanitize, bench) -> state -> result file.
Python alone is needed, and of the machine what a stage says.
"""
