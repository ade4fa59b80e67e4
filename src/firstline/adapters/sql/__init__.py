"""The store on SQL.

SQLite: WAL with `synchronous=FULL`. In the server one thread writes, and commits whatever queued up while its last
commit ran (no timer); readers never wait for it. The command line writes in short `BEGIN IMMEDIATE` transactions
with a busy timeout beside a running server, which notices within 250 ms. When the disk is full or the file locked,
writes raise and nothing of them is stored.
"""
