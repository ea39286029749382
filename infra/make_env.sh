#!/bin/sh
# Fresh secrets for infra/compose.yaml, in a file that nobody else may read. What is there stays.
set -eu
file="$(dirname "$0")/.env"
if [ -e "$file" ]; then echo "$file is there already" >&2; exit 1; fi
umask 077
word() { od -An -tx1 -N24 /dev/urandom | tr -d ' \n'; }
{
  for name in POSTGRES_PASSWORD PREFECT_WORD MLFLOW_PASSWORD MLFLOW_SESSION_KEY S3_KEY S3_SECRET RAY_TOKEN GRAFANA_PASSWORD; do
    echo "$name=$(word)"
  done
  echo "RECIPE=shapes.demo"
  echo "VIDEOS=./videos"
  echo "WORKERS=2"
} > "$file"
echo "wrote $file"
