"""Counting together with other replicas, and telling them of breakers, through Redis or Valkey.

Nothing in Redis is the truth: counts are rebuilt from the ledger of usage whenever they are missing. While Redis
answers, no window of an account is granted more than its limit, however many replicas there are. Every call ends in
100 ms. When one fails, the replica counts by itself: burst windows up to their whole limit, quota up to its part of
what was left, and `UsageUnknown` beyond. When Redis answers again, what was granted meanwhile is added exactly once.
A call that Redis gets to late, because it was stopped or overloaded, counts nothing.

Everything lives in one event loop.
"""
