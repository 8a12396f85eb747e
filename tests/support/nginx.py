"""Starting nginx with the sample configuration, in front of apps that tests have started."""

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from dev.servers import PROJECT, Served, free_port, stop, wait_for

SAMPLE = PROJECT / "ops" / "nginx" / "neon-dashboard.conf"
HOST = re.compile(r"server 10\.0\.0\.\d+:8000")
# What Debian's own nginx.conf decides elsewhere, all of it inside a folder of ours.
AROUND = """
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
def proxied(folder: Path, hosts: Sequence[Served]) -> Iterator[str]:
    """The address of an nginx in front of these hosts, as the sample has it."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        nginx(),
        "-e",
        str(folder / "error.log"),
        "-c",
        str(_configured(folder, address, hosts)),
    ]
    subprocess.run([*command, "-t", "-q"], check=True)
    process = subprocess.Popen(command)
    try:
        wait_for(f"http://{address}/readyz")
        yield f"http://{address}"
    finally:
        stop(process)


def nginx() -> str:
    """The program, which Debian puts where only administrators look."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert found is not None, "nginx is needed: make tests installs it where it can"
    return found


def _configured(folder: Path, address: str, hosts: Sequence[Served]) -> Path:
    places = iter([urlsplit(host.url).netloc for host in hosts])
    sample = SAMPLE.read_text().replace("listen 80;", f"listen {address};")
    ours = HOST.sub(lambda _: f"server {next(places)}", sample)
    (folder / "neon-dashboard.conf").write_text(ours)
    # Workers of a master that is root would be nobody, who may not enter the tests' folders.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    main = folder / "nginx.conf"
    main.write_text(AROUND.format(folder=folder, user=user))
    return main
