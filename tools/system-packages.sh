#!/bin/sh
# Installs Debian packages that are missing, where apt is at hand and may be used; else says what is missing.
# Usage: system-packages.sh PACKAGE...
set -u
missing=""
for package in "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null; then
  echo "no apt-get here; going on without the Debian packages:$missing" >&2
  exit 0
fi
run=""
if [ "$(id -u)" -ne 0 ]; then
  if ! sudo -n true 2>/dev/null; then
    echo "not allowed to install; to have them: sudo apt-get install$missing" >&2
    exit 0
  fi
  run="sudo -n"
fi
echo "installing the Debian packages:$missing"
$run apt-get update -qq || exit 1
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq --no-install-recommends $missing >/dev/null
