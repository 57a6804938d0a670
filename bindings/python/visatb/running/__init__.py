"""A plan carried out: commands supervised, results recorded, weights and comparisons made of them.

`docs/running.md` says what is on the disk and what counts as done. Every command has a supervisor,
a process that outlives `visatb run`; what it imports (`supervise` and below) is standard library
only, for it is started for every command.
"""
