#!/bin/sh
# Install the Python tools of the lock into .venv. Quick when nothing changed.
set -eu
cd "$(dirname "$0")/.."

say() { echo "setup: $*"; }
refuse() { echo "setup: $*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

wanted=$(cat requirements.txt lab/setup.sh | sha256sum | cut -c1-16)
mkdir -p build
if [ ! -s .vault-password ]; then
    # Encrypts the generated secrets of each inventory. Not in git: if it is lost, generate new secrets.
    (umask 077 && head -c 32 /dev/urandom | base64 > .vault-password)
    say "made .vault-password"
fi
# The checkout is the collection grunnfjell.platform: Ansible and Python import it through this link.
link_collection() {
    site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    mkdir -p "$site/ansible_collections/grunnfjell"
    ln -sfn "$PWD" "$site/ansible_collections/grunnfjell/platform"
}
if [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

# A working .venv is kept and only brought up to the lock; after `rm -r .venv` another Python may be chosen.
if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || [ ! -x .venv/bin/uv ]; then
    python=
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3}; do
        # Run it: the name may be a shim for a version that is not installed.
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || refuse "no Python 3.11 or newer was found (tried ${PYTHON:-python3 and its versions by name}):" \
        "install one, or name it: make setup PYTHON=/path/to/python3"

    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        say "installing python3-venv"
        { as_root apt-get -qq -o DPkg::Lock::Timeout=300 update &&
            as_root apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends python3-venv; } >build/setup.log 2>&1 ||
            { tail -n 20 build/setup.log >&2; refuse "python3-venv could not be installed"; }
    fi

    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
    # uv installs the lock in seconds, pip takes twenty. uv's hashes are in the same lock.
    awk '/^[a-z0-9]/ {ours = /^uv==/} ours' requirements.txt > .venv/uv.txt
    PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install --quiet --require-hashes --no-deps -r .venv/uv.txt
fi

say "installing the tools of requirements.txt into .venv"
# uv does not read pip's configuration, so give it this machine's index.
index=$(.venv/bin/python -c 'from lab.sources import read_pip_settings as read; print(read().get("index-url", ""))')
[ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
VIRTUAL_ENV=.venv .venv/bin/uv pip sync --quiet --system-certs --require-hashes requirements.txt
link_collection
echo "$wanted" > .venv/installed
