"""A realistic load on a running server, and what it saw: `make load` for minutes, `make soak` for half an hour.

Requests are sent at moments that were drawn beforehand, whatever the server does meanwhile, so that a slow answer is
not hidden by the requests that were never sent because of it. What is sent is a mix: messages in 14 languages and of
all lengths, both contracts, batches, earlier messages, reads, mistakes of every kind, clients that leave in the middle,
in waves and bursts. Each request knows which statuses are right for it. What the server uses is read from its
`/metrics`, so that a server on another machine can be looked at as well.
"""
