#!/bin/sh
# Prints the path of a Chromium for the browser tests. With --install it fetches Debian's when there is
# none and this user may; otherwise it says what to do.
find_browser() {
    if [ -n "$CHROMIUM" ]; then
        command -v "$CHROMIUM" && return
        echo "CHROMIUM names $CHROMIUM, which is not a program" >&2
        exit 1
    fi
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        # Ubuntu ships a chromium-browser that only tells its user to install a snap.
        command -v "$name" >/dev/null 2>&1 && "$name" --version >/dev/null 2>&1 && command -v "$name" && return
    done
    return 1
}

find_browser && exit 0

if [ "$1" = --install ] && command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ]; then as_root=''; elif sudo -n true 2>/dev/null; then as_root='sudo -n'; else as_root=no; fi
    if [ "$as_root" != no ]; then
        echo 'Installing Chromium for the browser tests' >&2
        {
            $as_root apt-get update -qq &&
                DEBIAN_FRONTEND=noninteractive $as_root apt-get install -qq -y --no-install-recommends \
                    chromium fonts-dejavu-core fonts-liberation
        } >/dev/null 2>&1
        find_browser && exit 0
    fi
fi

cat >&2 <<'MESSAGE'
The browser tests need Chromium, which was not found. On Debian: apt-get install chromium
Elsewhere install Chromium or Chrome and name it: make test CHROMIUM=/path/to/chrome
MESSAGE
exit 1
