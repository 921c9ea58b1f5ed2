"""Reading what a worker prints, while it goes on printing."""

import pytest

from supervisor.pool.files import HeldFile, OrderFile
from supervisor.worker.wire import read_order


@pytest.fixture
def output(tmp_path):
    held = HeldFile(tmp_path / "out")
    held.open()
    yield held
    held.close()


def write(output, data):
    with output.path.open("ab") as file:
        file.write(data)


def test_parts_add_up_to_the_whole_whatever_the_size_of_a_part_and_wherever_a_character_is_torn(output):
    text = "aä€😀z" * 3
    for limit in (4, 5, 7, 1000):
        output.clear()
        offset, read = 0, ""
        for byte in text.encode():
            write(output, bytes([byte]))
            part, offset = output.part(offset, limit)
            read += part
        assert read == text


def test_what_is_no_text_is_replaced_once_it_is_certain(output):
    write(output, b"a\0\xffb\xe2\x82")
    assert output.part(0, 100) == ("a��b", 4)
    write(output, b"x")
    assert output.part(4, 100) == ("�x", 7)


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(-2, ("ef", 6)), (-100, ("abcdef", 6)), (-(2**63), ("abcdef", 6)), (6, ("", 6)), (2**63 - 1, ("", 6))],
)
def test_a_part_begins_where_it_can(output, offset, expected):
    write(output, b"abcdef")
    assert output.part(offset, 100) == expected


# the file that names the job which an order is meant for


def test_an_order_needs_no_room_on_the_disk_that_the_file_does_not_have_from_the_beginning(tmp_path):
    orders = OrderFile(tmp_path / "orders")
    orders.open()
    size = orders.path.stat().st_size
    orders.name(2**40)
    assert orders.path.stat().st_size == size > 0
    assert read_order(str(orders.path)) == 2**40
    orders.close()


def test_an_order_that_cannot_be_written_does_not_keep_its_limit_from_holding(tmp_path):
    orders = OrderFile(tmp_path / "orders")
    orders.name(7)  # no file is open: what comes after the order, the kill, must not be lost with an error
    assert read_order(str(orders.path)) is None
