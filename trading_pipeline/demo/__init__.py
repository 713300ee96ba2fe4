"""The demo: real history from the first bar to the last portfolio snapshot, through the asset graph.

It is the daemon and the person at once: it steps the market clock through every instant at which something is due,
evaluates the real sensors on the persistent Dagster instance, runs the jobs they ask for in its own process, and decides
on proposals as `demo:person`, an actor that exists in the environment `demo` alone. Nothing else about it is special.
"""
