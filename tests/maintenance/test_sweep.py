"""The sweep over processor settings finds a cell that differs, and skips with a reason what it cannot try."""

import argparse

import nbformat
import pytest
import sweep
from cpu_settings import all_settings, missing_for, processor_flags, short_settings

OLD = {"avx2"}  # a processor of 2015
NEW = {"avx2", "avx512bw", "avx512_bf16", "amx_bf16"}
PRINT_SETTING = "import os\nprint(os.environ.get('ONEDNN_MAX_CPU_ISA', 'nothing set'))"


def write_notebook(path, *cells: tuple[str, str]) -> None:
    """A notebook of cells (source, stored output)."""
    notebook = nbformat.v4.new_notebook()
    for number, (source, text) in enumerate(cells, start=1):
        cell = nbformat.v4.new_code_cell(source, execution_count=number)
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
        notebook.cells.append(cell)
    nbformat.write(notebook, path)


@pytest.mark.parametrize(
    ("flags", "variables", "missing"),
    [
        (OLD, {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}, ""),
        (OLD, {"ATEN_CPU_CAPABILITY": "avx512"}, "avx512bw"),
        (OLD, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "avx512bw"),
        (NEW - {"amx_bf16"}, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, "amx_bf16"),
        (NEW, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, ""),
        (set(), {"ATEN_CPU_CAPABILITY": "avx2"}, "avx2"),
        (set(), {"ATEN_CPU_CAPABILITY": "default"}, ""),
        (set(), {}, ""),
    ],
)
def test_what_the_processor_lacks_is_named(flags, variables, missing):
    reason = missing_for(variables, flags)
    if missing:
        assert f"needs {missing}" in reason
    else:
        assert reason == ""


def test_settings_of_an_old_processor_are_skipped_not_passed(capsys):
    settings = [setting for setting in all_settings(OLD) if setting.missing]
    assert {setting.name.split(",")[0] for setting in settings} == {
        "ATen avx512",
        "oneDNN AVX512_CORE",
        "oneDNN AVX512_CORE_BF16",
        "oneDNN AVX512_CORE_AMX",
    }
    sweep.print_table([], settings, {})
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == len(settings)
    assert all("skipped: " in line for line in lines)


def test_only_the_settings_with_two_threads():
    short = argparse.Namespace(oldest=False, short=True, threads=2)
    assert [setting.name for setting in sweep.choose_settings(short)] == [
        "own, 2 threads",
        "oldest, 2 threads",
    ]
    every = argparse.Namespace(oldest=False, short=False, threads=2)
    chosen = sweep.choose_settings(every)
    assert {setting.threads for setting in chosen} == {2}
    assert 2 * len(chosen) == len(all_settings(processor_flags()))


def test_flags_are_read_and_may_be_unreadable(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2 amx_bf16\n", encoding="utf-8")
    assert processor_flags(cpuinfo) == {"fpu", "avx2", "amx_bf16"}
    assert processor_flags(tmp_path / "none") == set()


def test_a_cell_that_differs_is_found(tmp_path, capsys):
    path = tmp_path / "planted.ipynb"
    write_notebook(path, ("print('the same')", "the same\n"), (PRINT_SETTING, "nothing set\n"))
    own, oldest = short_settings(NEW)
    assert sweep.differing_cells(path, own) == {}
    differing = sweep.differing_cells(path, oldest)
    assert list(differing) == ["1"]
    assert "nothing set" in differing["1"] and "\x1b" not in differing["1"] and "#x1B" not in differing["1"]
    sweep.print_differences({(path, "oldest"): differing})
    printed = capsys.readouterr().out
    assert f"{tmp_path.name}/planted, oldest, cell 1:" in printed and "nothing set" in printed


def test_a_run_that_breaks_is_not_passed(tmp_path):
    path = tmp_path / "broken.ipynb"
    path.write_text("this is no notebook", encoding="utf-8")
    assert sweep.differing_cells(path, short_settings(NEW)[0])


def test_every_notebook_runs_with_every_setting(monkeypatch, tmp_path):
    monkeypatch.setattr(
        sweep, "differing_cells", lambda notebook, setting: {f"{notebook.stem} {setting.name}": "why"}
    )
    notebooks = [tmp_path / "a.ipynb", tmp_path / "b.ipynb"]
    results = sweep.sweep(notebooks, short_settings(NEW))
    assert len(results) == 4
    for (notebook, setting), cells in results.items():
        assert cells == {f"{notebook.stem} {setting}": "why"}
