#!/bin/sh
# Makes .venv: what requirements.lock names, or another lock on top of it, hash by hash and compiled, then the library and
# the `sampan` command.
# The index is the one that uv or pip is configured with on this machine.
set -eu

cd "$(dirname "$0")/../.."
stamp=$1
lock=${2:-requirements.lock}

usable() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
}

python=
for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if usable "$candidate"; then python=$candidate && break; fi
done
if [ -z "$python" ]; then
    echo "error: Sampan needs Python 3.11, 3.12 or 3.13; name one with PYTHON=<path> make setup" >&2
    exit 1
fi

if command -v uv >/dev/null 2>&1; then
    uv=uv
    usable .venv/bin/python || uv venv --quiet --clear --python "$python" .venv
else
    echo "making .venv with uv, which installs the rest"
    if ! usable .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --clear .venv || {
            echo "error: $python cannot make a virtual environment; install its venv package (python3-venv) or uv" >&2
            exit 1
        }
    fi
    # The lock has its version and hashes, too.
    sed -n '/^uv==/,/^[^ ]/{/^uv==/p;/^    --hash/p;}' requirements.lock >.venv/uv.txt
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.txt
    uv=.venv/bin/uv
fi
# uv does not read pip's configuration, from files or variables: hand over what only pip knows, the most specific last. Not
# further indexes: uv takes a package from the first that has it, and fails where one is away.
of_pip=$("$python" -m pip config list 2>/dev/null || true)
hand_over() {
    for section in global install :env:; do
        value=$(printf '%s\n' "$of_pip" | sed -n "s/^$section\.$1='\(.*\)'\$/\1/p")
        if [ -n "$value" ]; then export "$2=$value"; fi
    done
}
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then hand_over index-url UV_DEFAULT_INDEX; fi
if [ -z "${SSL_CERT_FILE:-}" ]; then hand_over cert SSL_CERT_FILE; fi
if [ -z "${UV_INSECURE_HOST:-}" ]; then hand_over trusted-host UV_INSECURE_HOST; fi
if [ -z "${ALL_PROXY:-}${HTTPS_PROXY:-}" ]; then hand_over proxy ALL_PROXY; fi

echo "installing the packages of $lock into .venv"
# A lock names all that is wanted.
$uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes --compile-bytecode -r "$lock"

# The library runs from the work tree. What builds it is among the locked packages.
$uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .

name=$(basename "$stamp")
rm -f .venv/"${name%%-*}"-*
touch "$stamp"
