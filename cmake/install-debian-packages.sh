#!/bin/sh
# install-debian-packages.sh [extra package]...
#
# Installs what building and testing kvkeep needs on Debian 12, where it is missing. As root, or with sudo.
set -eu

packages="
  g++ cmake ninja-build
  libeigen3-dev libfmt-dev
  libgtest-dev libbenchmark-dev libhnswlib-dev
  libcli11-dev nlohmann-json3-dev libsentencepiece-dev pkg-config
  bible-kjv gnuplot-nox
  $*"

missing=""
for package in $packages; do
  # ${db:Status-Status} is dpkg's own, not the shell's
  # shellcheck disable=SC2016
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=""
  [ "$status" = installed ] || missing="$missing $package"
done

if [ -z "$missing" ]; then
  echo "All packages are installed."
  exit 0
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "As root: apt-get install$missing" >&2
    exit 1
  fi
  as_root="sudo"
fi

echo "Installing:$missing"
$as_root apt-get update
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
