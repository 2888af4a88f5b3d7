"""Which trace a request belongs to."""

import pytest

from verifier.core.traceparent import TraceParent, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"  # the example of W3C Trace Context


def test_it_names_a_trace_and_the_span_that_asks() -> None:
    assert parse(f"00-{TRACE}-{SPAN}-01") == TraceParent(TRACE, SPAN, 0x01)


@pytest.mark.parametrize(("flags", "is_sampled"), [("00", False), ("01", True), ("02", False), ("ff", True)])
def test_one_bit_says_whether_the_trace_is_kept(flags: str, is_sampled: bool) -> None:
    found = parse(f"00-{TRACE}-{SPAN}-{flags}")
    assert found is not None
    assert (found.is_sampled, found.flags) == (is_sampled, int(flags, 16))
    assert found.sampled_trace_id == (TRACE if is_sampled else None)


@pytest.mark.parametrize("more", ["", "-", "-more", "-00-11"])
@pytest.mark.parametrize("version", ["01", "cc", "fe"])
def test_of_a_later_version_the_first_four_fields_are_read(version: str, more: str) -> None:
    assert parse(f"{version}-{TRACE}-{SPAN}-01{more}") == TraceParent(TRACE, SPAN, 0x01)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"cc-{'0' * 32}-{SPAN}-01",
        f"cc-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01-more",
        f"FF-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01more",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"00-{TRACE}-{SPAN}-0A",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-",
        f"00-{TRACE}-{SPAN}-1",
        f"0-{TRACE}-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01 ",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-0\u0661",  # a digit elsewhere
    ],
)
def test_what_is_not_valid_names_nothing(text: str) -> None:
    assert parse(text) is None
