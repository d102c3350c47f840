#!/bin/sh
# Installs Chromium, which tests look at pages with, and fonts for Chinese. From the system's packages, as root or with sudo.
set -eu

if command -v "${SAMPAN_CHROMIUM:-chromium}" >/dev/null 2>&1; then
    echo "Chromium is installed"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "error: install Chromium and fonts for Chinese (Noto CJK) with your system's tools, or name it: SAMPAN_CHROMIUM=<path>" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" != 0 ]; then as_root=sudo; fi
$as_root apt-get update -q
# Where another program is installing packages, as the updates of a new machine do, it waits for that one to end.
$as_root apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends chromium fonts-noto-cjk
