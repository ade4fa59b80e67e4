#!/bin/sh
# Run by PostgreSQL's image when it makes its data folder: the user and database of firstline, without superuser rights.
set -eu
psql --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres <<'SQL'
\set password `cat /run/secrets/database_password`
CREATE ROLE firstline LOGIN PASSWORD :'password';
CREATE DATABASE firstline OWNER firstline TEMPLATE template0 ENCODING 'UTF8';
REVOKE ALL ON DATABASE firstline FROM PUBLIC;
SQL
