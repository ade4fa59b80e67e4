"""`make bench`: what a request costs and how long it takes, as ratios and targets of one run.

Absolute figures depend on the machine; every cost is therefore also given against a bare FastAPI route that is
measured in turn with it. Servers are real processes, load comes from other processes, and where there are four cores
or more the two never share one.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `firstline` does; before numpy is imported
