#!/usr/bin/env bash
# Writes requirements.txt and binder/requirements.txt from pyproject.toml: every version pinned, for Python 3.11 to 3.13.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-uv}
command -v "$uv" >/dev/null || { echo "lock: needs uv (pip install uv)"; exit 1; }
common=(pip compile pyproject.toml --universal --python-version 3.11 --no-header --no-annotate --quiet --no-emit-index-url --no-emit-find-links)
{
  echo "# Everything: the notebooks, the book, the tests, the benchmarks. Written by 'make lock' from pyproject.toml."
  echo "-e ."
  "$uv" "${common[@]}" --extra book --extra lab --extra test --extra bench
} > requirements.txt.new
{
  echo "# What running the notebooks needs, and no more. Written by 'make lock' from pyproject.toml."
  echo "-e ."
  "$uv" "${common[@]}" --constraint <(grep -v '^-e' requirements.txt.new)
} > binder/requirements.txt.new
mv requirements.txt.new requirements.txt
mv binder/requirements.txt.new binder/requirements.txt
