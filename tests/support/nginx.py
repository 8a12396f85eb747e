"""Runs nginx with the sample configuration in front of served apps."""

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.servers import PROJECT, AppServer, free_port, stop, wait_for

SAMPLE = PROJECT / "ops" / "nginx" / "neon-dashboard.conf"
SAMPLE_SERVER = re.compile(r"server 10\.0\.0\.\d+:8000")
# The settings of Debian's nginx.conf, with all files inside a temporary folder.
MAIN_CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/neon-dashboard.conf;
}}
"""


@contextmanager
def run_nginx(folder: Path, hosts: Sequence[AppServer]) -> Iterator[str]:
    """Run nginx in front of these hosts and return its address."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        nginx(),
        "-e",
        str(folder / "error.log"),
        "-c",
        str(_write_config(folder, address, hosts)),
    ]
    subprocess.run([*command, "-t", "-q"], check=True)
    process = subprocess.Popen(command)
    try:
        wait_for(f"http://{address}/readyz")
        yield f"http://{address}"
    finally:
        stop(process)


def nginx() -> str:
    """The path of nginx, which Debian installs outside the path of ordinary users."""
    path = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert path is not None, "nginx is needed: make tests installs it where it can"
    return path


def _write_config(folder: Path, address: str, hosts: Sequence[AppServer]) -> Path:
    addresses = iter([urlsplit(host.url).netloc for host in hosts])
    sample = SAMPLE.read_text().replace("listen 80;", f"listen {address};")
    config = SAMPLE_SERVER.sub(lambda _: f"server {next(addresses)}", sample)
    (folder / "neon-dashboard.conf").write_text(config)
    # Workers of a root master run as the user nobody, who cannot read the folders of the tests.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    main_config = folder / "nginx.conf"
    main_config.write_text(MAIN_CONFIG.format(folder=folder, user=user))
    return main_config
