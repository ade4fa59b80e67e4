"""Values into values: no clock, no randomness, no input or output.

Every function here is handed the time, the ids and the state that it needs, and returns what should happen.
Nothing in this package blocks, and everything may be called from any thread.
"""
