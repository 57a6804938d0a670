"""The loss of VisATB beside what others compute, on the same data in one process.

`benchmarks/cpu.py` is the command. Data goes one way:
cases -> data -> (contestants, floors) -> timing -> results -> table, plot.
"""
