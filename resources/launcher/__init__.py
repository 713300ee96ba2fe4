"""The warm run launcher: one process a run, forked from one that has everything imported.

`parent` waits on a Unix socket, `children` are what it forks and `worker` is what a fork does; `warmth` is what they find
imported, `environment` what they are given, `protocol` how all speak. `run_launcher` is what Dagster talks to, `run_coordinator` lets
a run begin without waiting for the queue's next look. docs/launcher.md tells what it does, what it refuses, and how to switch it off.
"""
