#!/bin/sh
# Make random secrets for compose.yaml: one file each in deploy/compose/secrets, and the folder's name in .env.
# What is there already is never changed, so it may be run again after an upgrade.
set -eu
umask 077
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$root/deploy/compose/secrets
made=

random() { od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# keep NAME VALUE: write the file unless there is one. Containers run as users of their own, so the files can be read by
# all, and the folder lets nobody but its owner reach them.
keep() {
    if [ ! -e "$folder/$1" ]; then
        printf '%s\n' "$2" >"$folder/.$1.new"
        chmod 444 "$folder/.$1.new"
        mv "$folder/.$1.new" "$folder/$1"
        made="$made $1"
    fi
}

mkdir -p "$folder/providers"
chmod 700 "$folder"
chmod 755 "$folder/providers"
keep database_password "$(random)"
keep database_url "postgresql://firstline:$(cat "$folder/database_password")@postgres:5432/firstline"
keep postgres_password "$(random)"
if [ ! -e "$folder/redis.conf" ] || [ ! -e "$folder/redis_url" ]; then
    password=$(random)
    rm -f "$folder/redis.conf" "$folder/redis_url"
    keep redis.conf "requirepass $password"
    keep redis_url "redis://:$password@redis:6379/0"
fi
keep secret_key "$(random)"
keep metrics_token "$(random)"
keep grafana_password "$(random)"
keep slack_url ""
keep smtp_password ""

if ! grep -qs '^SECRETS_DIR=' "$root/.env"; then
    if [ -s "$root/.env" ] && [ -n "$(tail -c 1 "$root/.env")" ]; then
        echo >>"$root/.env"
    fi
    echo 'SECRETS_DIR=./deploy/compose/secrets' >>"$root/.env"
    made="$made .env"
fi
if [ -n "$made" ]; then
    echo "Made:$made"
else
    echo "Nothing to do: all secrets are there."
fi
