#!/usr/bin/env bash
# Finds or fetches the browser that the tests of the book use: bash tools/browser.sh [python]
# An installed Chrome or Chromium; else Debian's chromium, as root; else Playwright's own download.
# Says what it did. Without any browser it fails only with CI=true; the tests that need one are then skipped.
set -uo pipefail
python=${1:-python3}

found() {
  for name in "${CHROME:-}" google-chrome google-chrome-stable chromium chromium-browser; do
    [ -n "$name" ] && path=$(command -v "$name" 2>/dev/null) || continue
    # Ubuntu's chromium is a stub that asks for a snap: only a browser that starts counts.
    timeout 20 "$path" --version --no-sandbox >/dev/null 2>&1 && { echo "$path"; return 0; }
  done
  return 1
}

playwrights() {
  "$python" - <<'PY' 2>/dev/null
from pathlib import Path
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    path = playwright.chromium.executable_path
raise SystemExit(print(path) if Path(path).exists() else 1)
PY
}

if path=$(found); then echo "browser: $path"; exit 0; fi
if path=$(playwrights); then echo "browser: Playwright's $path"; exit 0; fi

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "browser: none installed; asking the system's packages for chromium"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1
  if path=$(found); then echo "browser: installed $path"; exit 0; fi
fi

echo "browser: none installed; asking Playwright to fetch its own chromium"
with_deps=""
[ "$(id -u)" = 0 ] && with_deps="--with-deps"
"$python" -m playwright install $with_deps chromium >/dev/null 2>&1
if path=$(playwrights); then echo "browser: fetched $path"; exit 0; fi

echo "browser: none can be had here. The tests that need one are skipped."
[ "${CI:-}" != true ]
