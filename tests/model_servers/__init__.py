"""Servers on loopback that speak the model providers' APIs as documented, for the real SDKs to be driven against.

They check requests as strictly as the real ones are documented to, behave as a test scripts them, and keep what they were sent.
Nothing here knows the adapters: what an API takes and gives stands here a second time, from its documentation.
"""
