"""Check that the programs for the tests are installed; install Debian packages as root."""

import os
import shutil
import subprocess
import sys

# Debian packages, each with the possible names of the program that the tests start.
NEEDED = {
    "chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "pgbouncer": ("pgbouncer", "/usr/sbin/pgbouncer"),
    "prometheus": ("promtool",),
    "systemd": ("systemd-analyze",),
    "nginx": ("nginx", "/usr/sbin/nginx"),
}


def main() -> None:
    """Install missing packages, or exit with the command to do so."""
    missing = [name for name, programs in NEEDED.items() if not any(map(shutil.which, programs))]
    if not missing:
        return
    names, apt_get = " ".join(missing), shutil.which("apt-get")
    if os.geteuid() != 0 or apt_get is None:
        sys.exit(f"the tests need {names}; on Debian: sudo apt install {names}")
    print(f"Installing {names} for the tests…", flush=True)
    for command in (["update"], ["install", "-y", *missing]):
        subprocess.run(  # nosec B603 # fixed arguments, no shell
            [apt_get, "-qq", *command], check=True, stdout=subprocess.DEVNULL
        )


if __name__ == "__main__":
    main()
