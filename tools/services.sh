#!/bin/sh
# Start PostgreSQL and Redis on this machine where they are installed and do not answer; for CI, whose tests need them.
set -eu
answers() { python3 -c "import socket; socket.create_connection(('127.0.0.1', $1), 1).close()" 2>/dev/null; }

if ! answers 6379 && command -v redis-server >/dev/null; then
    redis-server --daemonize yes --bind 127.0.0.1 --port 6379 --save "" --appendonly no >/dev/null
fi
if ! answers 5432 && command -v pg_ctlcluster >/dev/null; then
    pg_lsclusters --no-header | while read -r version name _; do
        pg_ctlcluster --skip-systemctl-redirect "$version" "$name" start || true
    done
fi
waited=0
until { answers 6379 && answers 5432; } || [ "$waited" -ge 20 ]; do
    sleep 1
    waited=$((waited + 1))
done
