#!/usr/bin/env bash
# Makes the virtual environment and installs requirements.txt: tools/venv.sh PYTHON FOLDER
set -euo pipefail
python=$1 folder=$2
cd "$(dirname "$0")/.."
if [ -z "$python" ]; then
  echo "This course needs Python 3.11, 3.12 or 3.13; none was found. Name one: make PYTHON=/path/to/python3.12 book" >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  package=$("$python" -c 'import sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")')
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing $package, which Debian and Ubuntu keep apart from Python."
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq "$package" >/dev/null
  else
    echo "This Python cannot make virtual environments. Install them first: sudo apt install $package" >&2
    exit 1
  fi
fi
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
echo "Installing the pinned packages into $folder (some minutes the first time)."
python=$folder/bin/python
# uv, pinned like the rest, fetches in parallel; where it cannot be had, pip does the same more slowly.
"$python" -m pip install --quiet --disable-pip-version-check "$(grep '^uv==' requirements.txt)" &&
  "$python" -m uv pip install --quiet --compile-bytecode --python "$python" -r requirements.txt ||
  "$python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
