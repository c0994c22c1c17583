"""What the assembler makes of PTX, without a device."""

import re
from importlib import import_module

import pytest

CAPABILITIES = [(8, 0), (9, 0)]
EACH_CAPABILITY = [pytest.param((8, 0), id="cc80", marks=pytest.mark.slow), pytest.param((9, 0), id="cc90")]


def registers(ptx, capability):
    """Return how many registers a thread needs, after the assembler found room for all numbers in registers."""
    nvjitlink = import_module("cuda.bindings.nvjitlink")
    options = [f"-arch=sm_{capability[0]}{capability[1]}", "-verbose"]
    handle, source = nvjitlink.create(len(options), options), ptx.encode()
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, source, len(source), "kernel")
        nvjitlink.complete(handle)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    finally:
        nvjitlink.destroy(handle)
    assert b"0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in log
    used = int(re.search(rb"Used (\d+) registers", log)[1])
    return -(-used // 8) * 8  # they are given away by eights
