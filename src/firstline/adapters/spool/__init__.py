"""A durable local queue of records for the time that the store is away.

A record that it takes is on disk before its request is answered, and reaches the store exactly once and in order, also
when the process is killed at any moment. One server uses a folder. What does not fit is refused before it is taken.
"""
