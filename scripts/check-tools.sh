#!/bin/sh
# Says which tools are missing, all at once, and how to get them. Changes nothing.
python="${PYTHON:-python3}"
missing=''

if ! command -v "$python" >/dev/null 2>&1; then
    missing="$missing
  Python 3.11 or newer: apt-get install python3 python3-venv"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    missing="$missing
  Python 3.11 or newer: $python is $("$python" --version 2>&1); name another with make PYTHON=python3.12"
elif [ ! -x .venv/bin/python ] && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    missing="$missing
  Python's venv module: apt-get install python3-venv"
fi

if ! command -v node >/dev/null 2>&1; then
    missing="$missing
  Node.js 20.19 or newer: apt-get install nodejs npm, or nodejs.org where that is older"
elif ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'; then
    missing="$missing
  Node.js 20.19 or newer: this is $(node --version); see nodejs.org"
fi
command -v npm >/dev/null 2>&1 || missing="$missing
  npm: it comes with Node.js; on Debian apt-get install npm"

if [ -n "$missing" ]; then
    echo "Tributary needs some tools that this machine lacks:$missing" >&2
    exit 1
fi
