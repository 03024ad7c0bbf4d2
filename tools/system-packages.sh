#!/bin/sh
# Installs Debian packages that are missing, where apt is at hand and may be used; else says what is missing and goes
# on: nothing here is needed to use senet, only to try it offline or to test its pages.
# Usage: system-packages.sh PACKAGE...
set -u
missing=""
for package in "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
go_on() {
  echo "$1; going on without the Debian packages:$missing" >&2
  exit 0
}
command -v apt-get >/dev/null || go_on "no apt-get here"
run=""
if [ "$(id -u)" -ne 0 ]; then
  sudo -n true 2>/dev/null || go_on "not allowed to install"
  run="sudo -n"
fi
echo "installing the Debian packages:$missing"
$run apt-get update -qq || go_on "apt-get update failed"
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq --no-install-recommends $missing >/dev/null \
  || go_on "apt-get install failed"
