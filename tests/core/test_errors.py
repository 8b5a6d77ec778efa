"""Messages stay short, and lack of memory is known in all its forms."""

from __future__ import annotations

import pytest

from spry.core import plugins
from spry.core.errors import ConfigError, PluginError, first_line, is_out_of_memory, nearest


def test_of_thousands_of_names_a_few_are_told():
    told = nearest("text", [f"c{number}" for number in range(5000)])
    assert told.endswith(" and 4976 more.") and len(told) < 250


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_lack_of_memory_is_known(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2"), OSError(28, "full"), ConfigError("out of memory")]
)
def test_other_errors_are_not_lack_of_memory(error):
    assert not is_out_of_memory(error)


def test_of_a_long_line_one_sentence_is_told():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError("Weights are bad. " + "Do this. " * 40)) == "Weights are bad"
    assert len(first_line(ValueError("x" * 9000))) < 300
    assert first_line(ValueError()) == "it says no more"


def test_a_plugin_that_cannot_be_imported_is_named(monkeypatch):
    point = plugins.EntryPoint(name="mine", value="no_such_module_of_mine", group=plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    plugins.load_plugins.cache_clear()
    with pytest.raises(PluginError, match=r"plugin 'mine' \(no_such_module_of_mine\) cannot be imported"):
        plugins.load_plugins()
