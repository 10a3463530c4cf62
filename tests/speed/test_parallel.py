"""The embedded model in several processes: the same tokens, and nothing left when a process dies or hangs."""

import json
import socket
import time

import psutil
import pytest
from namespaces import ADDRESSES, two_computers, why_not

from helpers import EMBEDDED_MODEL, CourseError
from helpers.speed import parallel
from helpers.speed.failures import LaunchError, failed_launch, hung_ranks, late_launch, step_of
from helpers.speed.node import note_failure, open_store
from helpers.speed.parallel import Node, launched, share_out, wait_for, write_task
from helpers.speed.processes import LOOPBACK, free_port
from helpers.speed.ways import WAYS

PATIENCE = 600  # seconds: a safety net far from the usual time


def test_three_ways_give_the_tokens_of_one_process():
    results = {result.way: result for result in share_out(EMBEDDED_MODEL, WAYS, processes=2)}
    assert list(results) == list(WAYS)
    for result in results.values():
        assert result.same_tokens
        assert result.close
        assert max(result.process_bytes) < 0.6 * result.whole_bytes
    # What is cut differs: a part of every expert, or some experts whole. The bytes are the same.
    assert results["tensor"].process_bytes == results["experts"].process_bytes
    # A pipeline holds everything once; the others have a copy of the shared expert in every process.
    assert sum(results["pipeline"].process_bytes) == results["pipeline"].whole_bytes
    assert sum(results["tensor"].process_bytes) > results["tensor"].whole_bytes


@pytest.fixture
def taken_port():
    """A port on which a program of this test listens."""
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_free_port_that_somebody_takes_in_between_is_replaced(monkeypatch, taken_port):
    ports = [free_port(), taken_port]
    monkeypatch.setattr("helpers.speed.processes.free_port", ports.pop)
    (result,) = share_out(EMBEDDED_MODEL, ["pipeline"], processes=2)
    assert result.same_tokens
    assert not ports


def test_a_port_that_was_asked_for_is_not_replaced(monkeypatch, tmp_path, taken_port):
    write_task(tmp_path, EMBEDDED_MODEL, ["tensor"], 1)
    with pytest.raises(CourseError, match=f"Port {taken_port} cannot be used"):
        parallel.launch(tmp_path, 2, [Node()], LOOPBACK, taken_port, PATIENCE)


def test_two_nodes_on_one_computer():
    (result,) = share_out(EMBEDDED_MODEL, ["pipeline"], processes=2, nodes=[Node(), Node()])
    assert result.same_tokens
    assert result.close


def test_two_nodes_in_two_network_namespaces():
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with two_computers() as names:
        nodes = [Node("cable", ("ip", "netns", "exec", name)) for name in names]
        (result,) = share_out(EMBEDDED_MODEL, ["experts"], 2, nodes=nodes, address=ADDRESSES[0])
    assert result.same_tokens
    assert result.close


def ranks_of(children) -> dict[int, psutil.Process]:
    """The processes that torchrun has started, by their rank."""
    found = {}
    for child in children:
        for process in psutil.Process(child.pid).children(recursive=True):
            try:
                if "helpers.speed.rank" in process.cmdline():
                    found[int(process.environ()["RANK"])] = process
            except psutil.Error:  # ended, or not quite started
                continue
    return found


def wait_for_condition(condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def listening_addresses(processes) -> set[str]:
    """Addresses on which these processes wait for connections."""
    found = set()
    for process in processes:
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.add(connection.laddr.ip)
    return found


def test_a_hung_process_and_a_killed_one_are_named_and_nothing_stays(tmp_path):
    write_task(tmp_path, EMBEDDED_MODEL, ["tensor"], 4)
    with launched(tmp_path, 2, [Node()], LOOPBACK, free_port()) as children:
        wait_for_condition(lambda: not step_of(tmp_path, 1).startswith("0"))
        ranks = ranks_of(children)
        everybody = [
            psutil.Process(children[0].pid),
            *psutil.Process(children[0].pid).children(recursive=True),
        ]
        ranks[1].suspend()
        wait_for_condition(lambda: hung_ranks(tmp_path, 2) == [1])
        assert listening_addresses(everybody) == {LOOPBACK}
        with pytest.raises(LaunchError, match="Process 1 hangs") as hung:
            wait_for(children, tmp_path, 2, patience=0)
        assert hung.value.rank == 1
        ranks[1].kill()
        with pytest.raises(LaunchError, match=r"Process 1 was killed \(SIGKILL\)") as killed:
            wait_for(children, tmp_path, 2, patience=PATIENCE)
        assert killed.value.rank == 1
        assert "helpers.speed.rank" in killed.value.log
    _, alive = psutil.wait_procs(everybody, timeout=PATIENCE)
    assert not alive


def test_nothing_is_started_when_it_cannot_work(taken_port):
    with pytest.raises(CourseError, match="32 processes are more than the 16 experts"):
        share_out(EMBEDDED_MODEL, ["experts"], processes=32)
    with pytest.raises(CourseError, match="ways is 'tensor': give a list"):
        share_out(EMBEDDED_MODEL, "tensor")
    with pytest.raises(CourseError, match=r"ways is \[\]: give a list"):
        share_out(EMBEDDED_MODEL, [])
    with pytest.raises(CourseError, match=r"nodes is \[\]: give a list"):
        share_out(EMBEDDED_MODEL, ["tensor"], nodes=[])
    with pytest.raises(CourseError, match=r"processes is 2\.0: give a whole number"):
        share_out(EMBEDDED_MODEL, ["tensor"], processes=2.0)
    with pytest.raises(CourseError, match="new_tokens is 0: give a whole number"):
        share_out(EMBEDDED_MODEL, ["tensor"], new_tokens=0)
    with pytest.raises(CourseError, match="cannot be spread evenly over 3 nodes"):
        share_out(EMBEDDED_MODEL, ["tensor"], processes=2, nodes=[Node()] * 3)
    with pytest.raises(CourseError, match="patience is '60': give a number of seconds"):
        share_out(EMBEDDED_MODEL, ["tensor"], patience="60")
    with pytest.raises(CourseError, match="model_dir is None: give the folder"):
        share_out(None, ["tensor"])
    with pytest.raises(CourseError, match="cannot be used"):
        share_out(EMBEDDED_MODEL, ["tensor"], port=taken_port)


@pytest.mark.parametrize(
    "codes, errors, sentence, rank",
    [
        ({0: {"1": -9}}, {}, r"Process 1 was killed \(SIGKILL\)", 1),
        ({0: {"1": -9, "0": -15}}, {0: "RuntimeError: lost"}, r"Process 1 was killed \(SIGKILL\)", 1),
        ({0: {"0": 1}, 1: {"1": -11}}, {0: "x"}, r"Process 1 was killed \(SIGSEGV\)", 1),
        ({0: {"1": 1}}, {1: "OSError: no disk"}, r"Process 1 failed \(OSError: no disk\)", 1),
        ({0: {"1": 1}}, {}, r"Process 1 failed \(0 starting\)", 1),
        ({0: {"0": 1, "1": 1}}, {0: "x", 1: "y"}, "2 processes failed", None),
        ({0: {"0": -9, "1": -9}}, {}, "2 processes failed", None),
        ({}, {}, "torchrun ended before", None),
    ],
)
def test_who_is_named(tmp_path, codes, errors, sentence, rank):
    for node, failed in codes.items():
        (tmp_path / f"node_{node}.json").write_text(json.dumps(failed), encoding="utf-8")
    for number, words in errors.items():
        (tmp_path / f"rank_{number}.error").write_text(words, encoding="utf-8")
    error = failed_launch(tmp_path, "the log")
    assert isinstance(error, LaunchError)
    assert error.log == "the log"
    assert error.rank == rank
    with pytest.raises(CourseError, match=sentence):
        raise error


def test_a_port_that_is_taken_in_between(tmp_path):
    (tmp_path / "node_0.port").write_text("4711", encoding="utf-8")
    assert "Port 4711 cannot be used" in str(failed_launch(tmp_path, ""))


@pytest.mark.parametrize("address", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_of_this_computer(tmp_path, address):
    with pytest.raises(OSError) as refused:
        open_store(address, free_port())
    note_failure(tmp_path, refused.value, address, "4711")
    assert f"The first node cannot listen on {address}: give" in str(failed_launch(tmp_path, ""))


def test_a_port_that_the_first_node_finds_taken(tmp_path):
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError) as refused:
            open_store(LOOPBACK, port)
    note_failure(tmp_path, refused.value, LOOPBACK, str(port))
    assert f"Port {port} cannot be used" in str(failed_launch(tmp_path, ""))


def test_of_those_that_live_the_one_furthest_back_hangs(tmp_path):
    for rank, step in enumerate(["3 answering tensor", "2 loading tensor", "3 answering tensor"]):
        (tmp_path / f"rank_{rank}.step").write_text(step, encoding="utf-8")
        (tmp_path / f"rank_{rank}.alive").touch()
    error = late_launch(tmp_path, 3, 20, "")
    assert "Process 1 hangs (2 loading tensor)" in str(error)
    (tmp_path / "rank_0.step").write_text("2 loading tensor", encoding="utf-8")
    assert late_launch(tmp_path, 3, 20, "").rank is None
