#!/usr/bin/env bash
# Install Debian's chromium for tests/reporting/test_browser.py as root; elsewhere say so and leave (the
# test skips then).
set -euo pipefail
if command -v chromium > /dev/null; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
  echo "no chromium here, and installing it needs root and apt: the test of reports will skip" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium > /dev/null
