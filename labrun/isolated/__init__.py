"""Lab tests in real time with each server in a process of its own, a player, judged from outside.

The harness, the network, the persisters and every check run in the judge (`judge`), where no line of the submission is
ever executed; a player (`player`) runs one server and speaks to the judge through one connection (`frames`).
"""
