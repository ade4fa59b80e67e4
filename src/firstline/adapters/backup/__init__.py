"""Backups: one file of all that is stored, the same whatever database it is of.

A backup is a zip archive. `manifest.json` says what it is of; `tables/NAME.jsonl` has a row a line, as a JSON array in
the order of the table's key, so that the same rows give the same bytes on SQLite and PostgreSQL; `jobs/` and `spool/`
have files. The archive's comment is the SHA-256 of every byte before it, so that nothing of a damaged one is believed.

Reading a database takes one snapshot and no lock that a writer would wait for. An archive has its name only once it is
whole, on disk and checked. A restore checks the whole archive before it writes, writes beside the place, compares what
it has written, and then moves it into place or commits it.
"""
