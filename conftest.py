"""For every test: notebooks run in the quick budget, and unit tests never leave this machine."""

import os
import socket

import pytest
import torch

torch.set_num_threads(1)  # the networks of the tests are so small that more threads only wait for each other
os.environ.setdefault("DIFFUSION_BUDGET", "quick")  # reaches the kernels of the notebooks
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
if workers > 1:  # lessons that run side by side share the cores, and do not fight for them
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("DIFFUSION_DATA"):
        for item in filter(lambda item: item.get_closest_marker("full"), items):
            item.add_marker(pytest.mark.skip(reason="DIFFUSION_DATA names no folder with the full data sets"))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every host but this one, as a machine without a network does. Notebooks' kernels are not affected."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def refuse(host: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, f"unit tests have no network, and {host!r} was asked for")

    def guarded_connect(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOOPBACK:
            refuse(address[0])
        connect(self, address)

    def guarded_look_up(host: object, *args: object, **options: object) -> list:
        if host not in LOOPBACK:
            refuse(host)
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)
