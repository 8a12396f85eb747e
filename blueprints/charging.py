"""Whoever asks too much is told to wait, before anything is done for them."""

import ipaddress
import re

from flask import request

from allowance import Purse
from blueprints.errors import TooManyRequestsError
from house import house

WITH_PORT = re.compile(r"\[?([^\[\]]+)\]:\d{1,5}|([\d.]+):\d{1,5}")
LONGEST_ADDRESS = 64
IPV6_HOME = 64  # bits; a single home holds more IPv6 addresses than there are of version 4


def charge(purse: Purse, who: str) -> None:
    """Count a request of theirs; raises TooManyRequestsError for one too many."""
    seconds = house().allowances.charge(purse, who)
    if seconds > 0:
        raise TooManyRequestsError(seconds)


def charge_address() -> None:
    """Count a request of somebody who has not shown who they are; raises as `charge` does."""
    charge(Purse.ADDRESS, _origin(request.remote_addr or ""))


def _origin(address: str) -> str:
    """The address, or for version 6 the network that one household is given.

    Some proxies write the port as well: `192.0.2.1:5678`, `[2001:db8::1]:443`.
    """
    match = WITH_PORT.fullmatch(address)
    host = (match[1] or match[2]) if match else address.strip("[]")
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return f"unknown {address[:LONGEST_ADDRESS]}"  # a socket file, or what a proxy makes up
    if parsed.version == 4:
        return host
    mapped = parsed.ipv4_mapped
    return str(mapped or ipaddress.ip_network((int(parsed), IPV6_HOME), strict=False))
