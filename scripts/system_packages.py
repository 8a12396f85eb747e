"""Make sure that the tests find what they start; install Debian's packages where we may."""

import os
import shutil
import subprocess
import sys

# What the tests start, under the names it may have, and Debian's package of it.
NEEDED = {
    "chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "pgbouncer": ("pgbouncer", "/usr/sbin/pgbouncer"),
    "prometheus": ("promtool",),
    "systemd": ("systemd-analyze",),
    "nginx": ("nginx", "/usr/sbin/nginx"),
}


def main() -> None:
    """Install what is missing when we may; the tests themselves insist on all of it."""
    missing = [name for name, names in NEEDED.items() if not any(map(shutil.which, names))]
    if not missing:
        return
    wanted, apt_get = " ".join(missing), shutil.which("apt-get")
    if os.geteuid() != 0 or apt_get is None:
        sys.exit(f"the tests need {wanted}; on Debian: sudo apt install {wanted}")
    print(f"Installing {wanted} for the tests…", flush=True)
    for command in (["update"], ["install", "-y", *missing]):
        subprocess.run(  # nosec B603 # our own words, no shell
            [apt_get, "-qq", *command], check=True, stdout=subprocess.DEVNULL
        )


if __name__ == "__main__":
    main()
