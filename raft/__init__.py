"""The lab: a Raft to study or to replace (raft.py, skeleton.py), and the harness that judges it (config.py)."""
