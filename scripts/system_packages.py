"""Check that the programs for the tests are installed; install Debian packages as root."""

import os
import shutil
import subprocess
import sys

SMALL_BROWSER = "chromium-headless-shell"  # needs a third of a whole browser's processor time
WHOLE_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Debian packages, each with the possible names of the program that the tests start.
NEEDED = {
    SMALL_BROWSER: (SMALL_BROWSER,),
    "pgbouncer": ("pgbouncer", "/usr/sbin/pgbouncer"),
    "prometheus": ("promtool",),
    "systemd": ("systemd-analyze",),
    "nginx": ("nginx", "/usr/sbin/nginx"),
}


def main() -> None:
    """Install missing packages, or exit with the command to do so.

    A whole browser will do where the small one cannot be installed.
    """
    missing = _missing()
    if not missing:
        return
    apt_get = shutil.which("apt-get")
    if os.geteuid() == 0 and apt_get is not None:
        print(f"Installing {' '.join(missing)} for the tests…", flush=True)
        for command in (["update"], *(["install", "-y", name] for name in missing)):
            subprocess.run(  # nosec B603 # fixed arguments, no shell
                [apt_get, "-qq", *command], check=False, stdout=subprocess.DEVNULL
            )
    missing = _missing()
    if SMALL_BROWSER in missing and any(map(shutil.which, WHOLE_BROWSERS)):
        missing.remove(SMALL_BROWSER)
    if missing:
        names = " ".join(missing)
        sys.exit(f"the tests need {names}; on Debian: sudo apt install {names}")


def _missing() -> list[str]:
    return [name for name, programs in NEEDED.items() if not any(map(shutil.which, programs))]


if __name__ == "__main__":
    main()
