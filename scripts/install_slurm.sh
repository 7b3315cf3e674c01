#!/usr/bin/env bash
# Install SLURM for tests/slurm on Debian or Ubuntu as root; elsewhere say so and leave (the tests
# skip then). The tests start daemons of their own: nothing is configured and no service is needed.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps daemons
if command -v slurmctld > /dev/null && command -v slurmd > /dev/null; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
  echo "no SLURM here, and installing it needs root and apt: the tests marked slurm will skip" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends slurm-wlm > /dev/null
