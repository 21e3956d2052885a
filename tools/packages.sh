#!/usr/bin/env bash
# Finds or fetches the real tools that labs use and pip does not bring: from the system's packages, and workerd from npm.
# As root on Debian or Ubuntu it installs what is missing; elsewhere it says what is missing, and the chapters show
# recorded figures, the tests skip. With CI=true a missing tool is a failure.
set -uo pipefail

declare -A package=(
  [skopeo]=skopeo [umoci]=umoci [crun]=crun [runc]=runc [busybox]=busybox-static
  [qemu-system-x86_64]=qemu-system-x86 [runsc]=runsc [kernel]=linux-image-cloud-amd64 [npm]=npm
)
node=$(cd "$(dirname "$0")/.." && pwd)/.cache/node
workerd=1.20261117.1

missing() {
  for tool in "${!package[@]}"; do
    if [ "$tool" = kernel ]; then
      compgen -G "/boot/vmlinuz-*" >/dev/null || echo kernel
    else
      command -v "$tool" >/dev/null || echo "$tool"
    fi
  done | sort
}

wanted=$(missing)
if [ -n "$wanted" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "packages: installing" $wanted
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >/dev/null 2>&1
  for tool in $wanted; do
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${package[$tool]}" >/dev/null 2>&1 || echo "packages: no ${package[$tool]}"
  done
  wanted=$(missing)
fi
if [ ! -x "$node/node_modules/.bin/workerd" ] && command -v npm >/dev/null; then
  echo "packages: installing workerd $workerd"
  npm install --silent --no-audit --no-fund --prefix "$node" "workerd@$workerd" >/dev/null 2>&1
fi
[ -x "$node/node_modules/.bin/workerd" ] || wanted="${wanted:+$wanted }workerd"
if [ -z "$wanted" ]; then echo "packages: all tools are there"; exit 0; fi
echo "packages: missing" $wanted "- labs that need them show recorded figures, their tests are skipped"
[ "${CI:-}" != true ]
