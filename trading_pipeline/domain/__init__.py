"""What the product knows about trading: values, rules and state machines.

Pure by contract: no I/O, no clock, no randomness, no environment. Everything here can be tested with
nothing but its arguments.
"""
